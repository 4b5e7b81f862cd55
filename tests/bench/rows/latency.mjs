// One INSERT on an idle system, to the frame at a client.
import { graphileServing } from "../lib/peers.mjs";
import { run } from "../lib/processes.mjs";
import { SINGLE, Spillway, commentsLibrary, need } from "../lib/spillway.mjs";

async function ask(args) {
  const { p50_ms, p99_ms } = JSON.parse(await run(need("BENCH_STREAMS"), args.map(String)));
  return { value: p50_ms, p99: p99_ms };
}

async function spillway(bench, count) {
  const { postgres } = bench;
  await postgres.create("latency", bench.template);
  const worker = await Spillway.serving(bench, "latency", ["--handlers", commentsLibrary()]);
  const result = await ask(["latency", "--database", postgres.url("latency"), "--port", worker.port,
    "--target", "/sse/CommentStream/item:42", "--count", count,
    "--sql", `INSERT INTO spillway.events (type, payload) VALUES ('CommentAdded', ${SINGLE})`]);
  await worker.end();
  await postgres.drop("latency");
  return result;
}

async function graphile(bench, count) {
  const { postgres } = bench;
  const server = await graphileServing(bench, "graphile", 1);
  const result = await ask(["latency", "--database", postgres.url("graphile"), "--port", server.port, "--target", "/0", "--count", count,
    "--sql", `SELECT graphile_worker.add_job('CommentAdded', ${SINGLE}::json)`]);
  await server.end();
  await postgres.drop("graphile");
  return result;
}

// `rows`: the same as spillway's and the handler's; else the least that can be committed.
async function notify(bench, count, rows) {
  const { postgres } = bench;
  await postgres.create("notify", bench.template);
  await postgres.sql("notify", "CREATE TABLE bare (LIKE spillway.events INCLUDING ALL); CREATE TABLE least (id bigserial PRIMARY KEY, payload jsonb);");
  const [sql, answer] = rows
    ? [`INSERT INTO bare (type, payload) VALUES ('CommentAdded', ${SINGLE})`,
      "INSERT INTO item_comments (comment_id, item_id, author_name, text, timestamp) VALUES (gen_random_uuid()::text, '42', 'Ada', 'hi', '2026-01-01T00:00:00Z')"]
    : Array(2).fill(`INSERT INTO least (payload) VALUES ('{"text":"hi"}')`);
  const result = await ask(["notify", "--database", postgres.url("notify"), "--count", count, "--sql", sql, "--answer", answer]);
  await postgres.drop("notify");
  return result;
}

export const latencyRow = {
  name: "latency",
  what: "idle, one INSERT, to the frame at a client",
  unit: "ms",
  per: "event",
  async run(bench) {
    const count = bench.size(2000);
    const contenders = await bench.inTurns({
      spillway: () => spillway(bench, count),
      "NOTIFY and two commits of the same rows": () => notify(bench, count, true),
      "NOTIFY and two commits of the least row": () => notify(bench, count, false),
      "graphile-worker, better-sse": () => graphile(bench, count),
    });
    const [p50, p99] = ["p50", "p99"].map((name) => `idle, one INSERT, to the frame at a client: ${name}`);
    return {
      contenders,
      comparisons: [
        { of: "spillway", to: "NOTIFY and two commits of the same rows", what: p50, target: 2, atMost: true },
        { of: "spillway", to: "NOTIFY and two commits of the least row", what: p50, target: 2, atMost: true },
        { of: "spillway", metric: "p99", to: "spillway", toMetric: "value", toWhat: "its own p50", what: p99, target: 5, atMost: true },
        { of: "spillway", metric: "p99", to: "NOTIFY and two commits of the same rows", what: p99 },
        { of: "spillway", to: "graphile-worker, better-sse", what: p50 },
        { of: "spillway", metric: "p99", to: "graphile-worker, better-sse", what: p99 },
      ],
    };
  },
};
