// 32 clients insert events, one row in a transaction: while a worker keeps up with them, while it has
// more than it can do, and without one. The bare table has the same columns and indexes, and no trigger.
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { SINGLE, Spillway, commentsLibrary, live, queueEvents, settle } from "../lib/spillway.mjs";

async function inserted(bench, table, { worker = false, backlog = 0 } = {}) {
  const { postgres } = bench;
  const database = "enqueue";
  await postgres.create(database, bench.template);
  // A history, as every system has that is not of today: what the planner knows of empty tables is no use.
  await queueEvents(postgres, database, bench.size(20_000), { done: true });
  await postgres.sql(database, "CREATE TABLE bare (LIKE spillway.events INCLUDING ALL); INSERT INTO bare (type, payload) SELECT type, payload FROM spillway.events");
  if (backlog) await queueEvents(postgres, database, backlog);
  await settle(postgres, database);
  const script = path.join(bench.folder, "enqueue.sql");
  await writeFile(script, `INSERT INTO ${table} (type, payload) VALUES ('CommentAdded', ${SINGLE});\n`);
  const running = worker && new Spillway(postgres, database, ["--roles", "worker", "--handlers", commentsLibrary()]);
  if (running) await live(postgres, database, running);
  const { answer, each } = await postgres.measured(database, () =>
    postgres.pgbench(database, ["-n", "-c", "32", "-j", "2", "-T", String(bench.seconds(5)), "-f", script]));
  const left = Number(await postgres.sql(database, "SELECT count(*) FROM spillway.queue"));
  if (running) await running.end();
  if (running && running.code !== 0) throw new Error(`spillway ended with ${running.code}:\n${running.output}`);
  await postgres.drop(database);
  const value = Number(answer.match(/^tps = ([\d.]+)/m)[1]);
  if (backlog && left === 0) bench.say("  the backlog was gone before the end: the worker was idle for a while");
  if (worker && !backlog && left > value) bench.say(`  the worker did not keep up: ${left} were left`);
  const count = Number(answer.match(/transactions actually processed: (\d+)/)[1]);
  // With a worker the server's figures are those of its work too.
  return { value, left, ...(worker ? {} : each(count)) };
}

export const enqueueRow = {
  name: "enqueue",
  what: "32 clients, one INSERT a transaction",
  unit: "inserts/s",
  per: "insert",
  async run(bench) {
    const contenders = await bench.inTurns({
      "spillway, worker busy": () => inserted(bench, "spillway.events", { worker: true }),
      "spillway, backlog": () => inserted(bench, "spillway.events", { worker: true, backlog: bench.size(300_000) }),
      "spillway, no worker": () => inserted(bench, "spillway.events"),
      "bare table": () => inserted(bench, "bare"),
    });
    return {
      contenders,
      comparisons: [
        { of: "spillway, worker busy", to: "bare table", target: 0.8, what: "32 clients, one INSERT a transaction, worker keeps up" },
        { of: "spillway, backlog", to: "bare table", what: "the same, 300,000 events wait" },
        { of: "spillway, no worker", to: "bare table", what: "the same, no worker" },
      ],
    };
  },
};
