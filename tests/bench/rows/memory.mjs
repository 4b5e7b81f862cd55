// User memory of idle streams: what 15,000 of them add to the process.
import { Process, privateMemoryOf } from "../lib/processes.mjs";
import { Spillway, need } from "../lib/spillway.mjs";

async function bytesPerStream(bench, clients) {
  const { postgres } = bench;
  await postgres.create("memory", bench.template);
  const worker = await Spillway.serving(bench, "memory", ["--roles", "sse", "--max-connections", "100000"]);
  const open = async (count, target) => {
    const receiver = new Process(need("BENCH_STREAMS"), ["receive", "--port", worker.port, "--target", target,
      "--clients", count].map(String), { name: "bench_streams", input: "pipe" });
    await receiver.line(/ready/);
    return receiver;
  };
  // The first ones pay for what all share.
  const first = await open(100, "/sse/BenchStream/warm:%");
  const before = privateMemoryOf(worker.pid);
  const others = await open(clients, "/sse/BenchStream/item:%");
  const after = privateMemoryOf(worker.pid);
  for (const receiver of [first, others]) {
    receiver.close();
    await receiver.ended;
  }
  await worker.end();
  await postgres.drop("memory");
  return { value: (after - before) / clients };
}

export const memoryRow = {
  name: "idle-memory",
  what: "15,000 idle streams, each on a channel of its own",
  unit: "bytes/stream",
  per: "stream",
  async run(bench) {
    const contenders = await bench.inTurns({ spillway: () => bytesPerStream(bench, bench.size(15_000)) });
    return { contenders, comparisons: [{ of: "spillway", limit: { name: "2 KiB", value: 2048 }, target: 1, atMost: true }] };
  },
};
