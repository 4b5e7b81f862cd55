// spillway on a database of its own: schema, example tables, queued events, workers.
import { readFile, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Process, cpuEach, cpuOf, run, sleep } from "./processes.mjs";
import { CallCounter } from "./strace.mjs";

export function need(name) {
  if (!process.env[name]) throw new Error(`${name} is not set; run scripts/bench`);
  return process.env[name];
}

export const binary = () => need("SPILLWAY_BIN");
export const commentsLibrary = () => need("SPILLWAY_COMMENTS");
export const repository = fileURLToPath(new URL("../../..", import.meta.url));
export const commentsJq = () => path.join(repository, "examples/comments/handlers");

// The work of all rows: a comment on one of a hundred items. `g` counts; ids are new in each transaction,
// since the same comment twice would be an error.
const payload = (text) => `jsonb_build_object('comment_id', txid_current() || '-' || g, 'item_id', (g % 100)::text,
  'author_name', 'Ada', 'text', ${text}, 'timestamp', '2026-01-01T00:00:00Z')`;
export const COMMENT = "hello world, this is a comment";
// The same for a statement that is run again and again.
export const SINGLE = `jsonb_build_object('comment_id', gen_random_uuid()::text, 'item_id', '42', 'author_name', 'Ada',
  'text', '${COMMENT}', 'timestamp', '2026-01-01T00:00:00Z')`.replaceAll(/\s+/g, " ");

// A database with spillway's schema and the example's tables, to make others from.
export async function makeTemplate(postgres, name = "spillway_template", more = []) {
  await postgres.create(name);
  await run(binary(), ["migrate", "--database-url", postgres.url(name), ...more]);
  await postgres.sql(name, await readFile(path.join(repository, "examples/comments/schema.sql"), "utf8"));
  return name;
}

const CHUNK = 500_000;  // what one transaction's trigger keeps in memory

// `bytes`: of text in each event, which no compression makes smaller. `done`: into the log only, as if they
// had been handled long since.
const insert = (first, last, text) => `INSERT INTO spillway.events (type, payload)
      SELECT 'CommentAdded', ${payload(text)} FROM generate_series(${first}, ${last}) g;`;

// One transaction.
export const eventsSql = (first, last) => insert(first, last, `'${COMMENT}'`);

export async function queueEvents(postgres, database, count, { bytes, done = false } = {}) {
  const text = bytes === undefined ? `'${COMMENT}'` : `(SELECT left(string_agg(md5(n::text), ''), ${bytes}) FROM generate_series(0, ${Math.ceil(bytes / 32)}) n)`;
  for (let first = 1; first <= count; first += CHUNK)
    await postgres.sql(database, `${done ? "SET session_replication_role = replica;" : ""}
      ${insert(first, Math.min(count, first + CHUNK - 1), text)}`);
}

// Written pages are on disk and tables known to the planner before anything is timed.
export async function settle(postgres, database) {
  await postgres.sql(database, "VACUUM ANALYZE; CHECKPOINT;");
}

export class Spillway extends Process {
  constructor(postgres, database, args, env = {}) {
    super(binary(), ["run", "--database-url", postgres.url(database), ...args.map(String)], { name: "spillway", env });
  }

  // With streams: waits until it listens, and knows the port.
  static async serving(bench, database, args) {
    const file = path.join(bench.folder, "port");
    await rm(file, { force: true });
    const worker = new Spillway(bench.postgres, database, ["--listen", "127.0.0.1:0", "--port-file", file, ...args]);
    await until("spillway listens", worker, async () => { worker.port = Number(await readFile(file, "utf8").catch(() => "")); return worker.port > 0; });
    return worker;
  }
}

const PATIENCE_MS = 60_000;

function check(what, worker, since) {
  if (worker.code !== undefined) throw new Error(`${worker.name} ended:\n${worker.output.slice(-2000)}`);
  if (performance.now() - since > PATIENCE_MS) throw new Error(`waited a minute until ${what}:\n${worker.output.slice(-2000)}`);
}

// Asks again and again; throws when the process has ended, or after a minute.
async function until(what, worker, question) {
  const begin = performance.now();
  while (!await question()) {
    check(what, worker, begin);
    await sleep(20);
  }
}

// Waits until a worker has said that it lives: what it does from then on is work.
export async function live(postgres, database, worker) {
  await until("the worker is there", worker, async () => (await postgres.sql(database, "SELECT count(*) FROM spillway.live_workers")).trim() === "1");
}

// Asks one question again and again over one session; with both ends some 0.7 ms of CPU each time.
class Question {
  #psql;
  constructor(postgres, database, question) {
    this.question = question;
    this.#psql = new Process(postgres.psql, ["-X", "-q", "-A", "-t", "-d", postgres.url(database)], { input: "pipe" });
  }
  async ask() {
    this.#psql.output = "";
    this.#psql.write(`${this.question};\n`);
    const [, answer] = await this.#psql.line(/^(.*)\n/);
    return Number(answer);
  }
  end() { this.#psql.close(); return this.#psql.ended; }
}

// How many broadcasts there are; each event makes one.
async function progress(postgres, database) {
  const before = Number(await postgres.sql(database, "SELECT last FROM spillway.stream_head"));
  return new Question(postgres, database, `SELECT last - ${before} FROM spillway.stream_head`);
}

// Lets a worker work off `count` queued events, for `seconds` at most, and answers what that took. The
// rate is taken between the first batch that is seen and the last, so the start does not count.
export async function drain(postgres, database, count, args, seconds = Infinity) {
  const question = await progress(postgres, database);
  let worker;
  try {
    const marks = [];
    const { answer: cpu, each } = await postgres.measured(database, async () => {
      const begin = performance.now();
      worker = new Spillway(postgres, database, ["--roles", "worker", ...args]);
      // Seldom at first, often near the end: asking takes CPU from those who work.
      let pause = 20;
      for (let last = { done: 0, now: begin }; ;) {
        const done = await question.ask();
        const now = performance.now();
        if (done === last.done) {
          check("events are done", worker, last.now);
        } else {
          if (last.done === 0) marks.push(done >= count ? last : { done, now });
          else pause = Math.min(200, Math.max(10, (count - done) / (done - marks[0].done) * (now - marks[0].now) / 2));
          last = { done, now };
          if (done >= count || now - begin > seconds * 1000) {
            marks.push(last);
            break;
          }
        }
        await sleep(pause);
      }
      return cpuOf(worker.pid);
    });
    const [first, last] = [marks[0], marks.at(-1)];
    return {
      value: (last.done - first.done) / (last.now - first.now) * 1000,
      ...cpuEach({ user: 0, system: 0 }, cpu, last.done),
      ...each(last.done),
    };
  } finally {
    await worker?.end();
    await question.end();
  }
}

// A worker's system calls per event: it is traced while it is idle, then gets events all at once.
export async function drainCalls(bench, database, count, args) {
  const { postgres } = bench;
  const worker = new Spillway(postgres, database, ["--roles", "worker", ...args]);
  const question = await progress(postgres, database);
  try {
    await live(postgres, database, worker);
    const counter = await CallCounter.attach(bench, worker.pid);
    if (!counter) return {};
    await queueEvents(postgres, database, count);
    await until("all events are done", worker, async () => await question.ask() >= count);
    return await counter.end(count);
  } finally {
    await worker.end();
    await question.end();
  }
}
