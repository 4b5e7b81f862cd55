// graphile-worker, set as its page on performance sets it: 500 jobs fetched at once (localQueue), completions
// sent in batches as soon as there are some (delay 0), one connection more than jobs at a time. Those are 48,
// the best of 12, 24 (as on that page), 48 and 96 with one INSERT each. Our INSERT is a prepared statement,
// and nothing is logged.
//   node graphile_worker.mjs drain insert|nothing COUNT    works off COUNT jobs, prints {"seconds","cpu"}
//   node graphile_worker.mjs serve CHANNELS                inserts, and broadcasts with better-sse
// The database is in PGHOST, PGUSER, PGDATABASE. JOBS and POOL try other sizes.
import http from "node:http";
import { createChannel, createSession } from "better-sse";
import { Logger, run } from "graphile-worker";
import pg from "pg";

const [mode, ...args] = process.argv.slice(2);
const pool = new pg.Pool({ max: Number(process.env.POOL ?? 49) });
pool.on("error", () => {});

const insert = (payload) => pool.query({
  name: "insert",
  text: "INSERT INTO item_comments (comment_id, item_id, author_name, text, timestamp) VALUES ($1, $2, $3, $4, $5)",
  values: [payload.comment_id, payload.item_id, payload.author_name, payload.text, payload.timestamp],
});

const start = (task) => run({
  taskList: { CommentAdded: task },
  noHandleSignals: true,
  preset: {
    worker: {
      pgPool: pool,
      concurrentJobs: Number(process.env.JOBS ?? 48),
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      logger: new Logger(() => () => {}),
    },
  },
});

if (mode === "drain") {
  const [work, count] = [args[0], Number(args[1])];
  let begin;
  let done = 0;
  let finished;
  const all = new Promise((resolve) => { finished = resolve; });
  const runner = await start(async (payload) => {
    begin ??= process.hrtime.bigint();
    if (work === "insert") await insert(payload);
    if (++done === count) finished();
  });
  await all;
  // Done is done when the queue is empty, as for the others.
  for (;;) {
    const { rows } = await pool.query("SELECT 1 FROM graphile_worker._private_jobs LIMIT 1");
    if (rows.length === 0) break;
  }
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
  console.log(JSON.stringify({ seconds, cpu: process.cpuUsage() }));
  await runner.stop();
  process.exit(0);
}

const channels = Array.from({ length: Number(args[0]) }, () => createChannel());
const server = http.createServer(async (request, response) => {
  const channel = channels[Number(request.url.slice(1))];
  if (!channel) return response.writeHead(404).end();
  const session = await createSession(request, response);
  channel.register(session);
  session.push("hello");
});
process.on("SIGTERM", () => process.exit(0));
await start(async (payload) => {
  await insert(payload);
  channels[Number(payload.item_id) % channels.length].broadcast(payload, "CommentAdded");
});
server.listen(0, "127.0.0.1", () => console.log(`listening ${server.address().port}`));
