// The same drain with 100,000 and with 10,000,000 events in the log; and for a minute while another
// session keeps a transaction open, so that no dead row can go, beside the same minute without one.
import { statfs } from "node:fs/promises";
import { Process } from "../lib/processes.mjs";
import { commentsLibrary, drain, queueEvents, settle } from "../lib/spillway.mjs";

const GIGABYTES = 20;

async function withLog(bench, count) {
  const name = `log_${count}`;
  if (bench.made.has(name)) return name;
  bench.say(`  a log of ${count.toLocaleString("en")} events is made`);
  await bench.postgres.create(name, bench.template);
  await queueEvents(bench.postgres, name, count, { done: true });
  bench.made.add(name);
  return name;
}

// On the log as it stands: the rounds add to it, a little.
async function drained(bench, log) {
  const count = bench.size(200_000);
  await queueEvents(bench.postgres, log, count);
  await settle(bench.postgres, log);
  return drain(bench.postgres, log, count, ["--handlers", commentsLibrary()]);
}

async function minute(bench, held) {
  const { postgres } = bench;
  const database = "minute";
  const count = bench.size(4_000_000);
  await postgres.create(database, bench.template);
  await queueEvents(postgres, database, count);
  await settle(postgres, database);
  const holder = new Process(postgres.psql, ["-X", "-q", "-A", "-t", "-d", postgres.url(database)], { input: "pipe" });
  try {
    if (held) {
      holder.write("BEGIN; SELECT pg_current_xact_id(); SELECT 'held';\n");
      await holder.line(/held/);
    }
    return await drain(postgres, database, count, ["--handlers", commentsLibrary()], bench.seconds(60));
  } finally {
    holder.close();
    await holder.ended;
    await postgres.drop(database);
  }
}

export const growthRow = {
  name: "growth",
  what: "drain with a long log; with a transaction held open",
  unit: "events/s",
  per: "event",
  async unavailable(bench) {
    const { bavail, bsize } = await statfs(bench.folder);
    if (!bench.smoke && bavail * bsize < GIGABYTES * 1e9) return `${bench.folder} has less than ${GIGABYTES} GB left`;
  },
  async run(bench) {
    const small = await withLog(bench, bench.size(100_000));
    const large = await withLog(bench, bench.size(10_000_000));
    const contenders = await bench.inTurns({
      "spillway, 100,000 in the log": () => drained(bench, small),
      "spillway, 10,000,000 in the log": () => drained(bench, large),
      "spillway, a minute": () => minute(bench, false),
      "spillway, a minute, transaction held": () => minute(bench, true),
    });
    await bench.postgres.drop(large);
    bench.made.delete(large);
    return {
      contenders,
      comparisons: [
        { of: "spillway, 10,000,000 in the log", to: "spillway, 100,000 in the log", what: "200,000 events, 10,000,000 in the log", target: 0.9 },
        { of: "spillway, a minute, transaction held", to: "spillway, a minute", what: "a minute, another session keeps a transaction open", target: 0.8 },
      ],
    };
  },
};
