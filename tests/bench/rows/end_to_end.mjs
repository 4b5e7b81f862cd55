// One session inserts 20,000 events, a thousand in a transaction; the time runs from there until every
// client has every frame.
import { graphileJobs, graphileServing } from "../lib/peers.mjs";
import { Process, cpuEach, cpuOf } from "../lib/processes.mjs";
import { Spillway, commentsLibrary, eventsSql, need } from "../lib/spillway.mjs";

const CLIENTS = 100;
const TRANSACTION = 1000;

const inTransactions = (events, sql) =>
  Array.from({ length: Math.ceil(events / TRANSACTION) }, (_, i) => sql(i * TRANSACTION + 1, Math.min(events, (i + 1) * TRANSACTION))).join("\n");

// `target`: what the clients ask for, % is the client's number; `insert` puts `events` into the queue.
async function timed(bench, database, server, target, channels, events, insert) {
  const frames = events * CLIENTS / channels;
  const receiver = new Process(need("BENCH_STREAMS"), ["receive", "--port", server.port, "--target", target,
    "--clients", CLIENTS, "--frames", frames].map(String), { name: "bench_streams" });
  await receiver.line(/ready/);
  const { answer, each } = await bench.postgres.measured(database, async () => {
    const before = cpuOf(server.pid);
    const begin = performance.now();
    await insert();
    await receiver.line(/\{"frames"/);
    return { seconds: (performance.now() - begin) / 1000, ...cpuEach(before, cpuOf(server.pid), events) };
  });
  await receiver.ended;
  await server.end();
  await bench.postgres.drop(database);
  const { seconds, ...cpu } = answer;
  return { value: events / seconds, ...cpu, ...each(events) };
}

async function spillway(bench, events, channels) {
  const database = "endtoend";
  await bench.postgres.create(database, bench.template);
  const worker = await Spillway.serving(bench, database, ["--handlers", commentsLibrary()]);
  // All on a pattern that takes every event, or one client for each channel.
  const target = channels === 1 ? "/sse?channel=CommentStream:*" : "/sse/CommentStream/item:%";
  return timed(bench, database, worker, target, channels, events, () => bench.postgres.sql(database, inTransactions(events, eventsSql)));
}

async function graphile(bench, events, channels) {
  const database = "graphile";
  const server = await graphileServing(bench, database, channels);
  return timed(bench, database, server, channels === 1 ? "/0" : "/%", channels, events, () => bench.postgres.sql(database, inTransactions(events, graphileJobs)));
}

function row(channels, target) {
  return {
    name: channels === 1 ? "end-to-end-one" : "end-to-end-many",
    what: `20,000 events, ${channels === 1 ? "100 clients that get each of them" : "100 channels with one client each"}`,
    unit: "events/s",
    per: "event",
    async run(bench) {
      const events = bench.size(20_000);
      const contenders = await bench.inTurns({
        spillway: () => spillway(bench, events, channels),
        "graphile-worker, better-sse": () => graphile(bench, events, channels),
      });
      return { contenders, comparisons: [{ of: "spillway", to: "graphile-worker, better-sse", target }] };
    },
  };
}

export const endToEndRows = [row(1, 20), row(100, 10)];
