// bench_streams fanout: frames to many clients, timed; and once more, traced.
import { Process, run } from "./processes.mjs";
import { need } from "./spillway.mjs";
import { CallCounter } from "./strace.mjs";

const command = (options) => ["fanout", ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])];

export async function fanout(options) {
  const { deliveries_per_s, frame_bytes, server_user_us, server_system_us, client_us } = JSON.parse(await run(need("BENCH_STREAMS"), command(options)));
  return { value: deliveries_per_s, userUs: server_user_us, systemUs: server_system_us, clientUs: client_us, frameBytes: frame_bytes };
}

// The server's system calls per frame and client, of publishing alone.
export async function fanoutCalls(bench, options) {
  const streams = new Process(need("BENCH_STREAMS"), [...command(options), "--hold"], { input: "pipe", name: "bench_streams" });
  try {
    const [, pid] = await streams.line(/"server_pid":(\d+)/);
    const counter = await CallCounter.attach(bench, Number(pid));
    if (!counter) return {};
    streams.write("\n");
    await streams.line(/"deliveries_per_s"/);
    return await counter.end(options.frames * options.clients);
  } finally {
    streams.close();
    await streams.ended;
  }
}
