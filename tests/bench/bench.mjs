// scripts/bench starts this: measures rows, prints a table, writes JSON and the page in docs/.
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { writeDocs } from "./lib/docs.mjs";
import { compare, problems } from "./lib/figures.mjs";
import { missing, versions } from "./lib/peers.mjs";
import { Postgres } from "./lib/postgres.mjs";
import { endAll, run } from "./lib/processes.mjs";
import { circumstances, text } from "./lib/report.mjs";
import { inTurns, summary } from "./lib/stats.mjs";
import { binary, makeTemplate, repository } from "./lib/spillway.mjs";
import { drainJqRow, drainRow } from "./rows/drain.mjs";
import { endToEndRows } from "./rows/end_to_end.mjs";
import { enqueueRow } from "./rows/enqueue.mjs";
import { fanoutRows } from "./rows/fanout.mjs";
import { growthRow } from "./rows/growth.mjs";
import { latencyRow } from "./rows/latency.mjs";
import { memoryRow } from "./rows/memory.mjs";
import { scalingRows } from "./rows/scaling.mjs";

const ROWS = [drainRow, drainJqRow, enqueueRow, latencyRow, ...fanoutRows, ...endToEndRows, memoryRow, growthRow, ...scalingRows];
const NAMES = ROWS.map((row) => row.name);
const USAGE = `scripts/bench [NAME…] [--rounds N] [--json FILE] [--docs]

Measures spillway beside its peers and limits and prints one table. Without a name all of it, which takes
half an hour; the beginning of a name, such as "fanout", takes all that begin so:
${ROWS.map((row) => `  ${row.name.padEnd(18)} ${row.what}`).join("\n")}

  --rounds N   each is measured N times in turns, 3 unless given
  --json FILE  every figure of every round
  --docs       writes the tables and curves of docs/performance.md anew; rows that were not measured stay
  --render     the same from docs/performance/figures.json, without measuring
  --release V  keeps the present ratios as those of release V, without measuring
  --smoke      tiny sizes and one round, which proves that the harness runs and nothing else`;

function refuse(message) {
  console.error(`${message}\n\n${USAGE}`);
  process.exit(2);
}

function options() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: { rounds: { type: "string", default: "3" }, json: { type: "string" }, docs: { type: "boolean" }, render: { type: "boolean" },
        release: { type: "string" },
        smoke: { type: "boolean", default: false }, check: { type: "boolean" }, help: { type: "boolean", short: "h" } },
    });
  } catch (error) {
    refuse(error.message);
  }
}

const { values, positionals } = options();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const meant = (name) => NAMES.includes(name) ? [name] : NAMES.filter((known) => known.startsWith(name));
const wanted = positionals.length === 0 ? ROWS : ROWS.filter((row) => positionals.some((name) => meant(name).includes(row.name)));
const unknown = positionals.filter((name) => meant(name).length === 0);
const rounds = values.smoke ? 1 : Number(values.rounds);
if (unknown.length > 0) refuse(`unknown: ${unknown.join(", ")}`);
if (!Number.isInteger(rounds) || rounds < 1) refuse("--rounds takes a whole number, 1 at least");
if (values.smoke && values.docs) refuse("--smoke measures nothing that could stand in docs/");
if (values.check) process.exit(0);  // scripts/bench asks before it builds
const docs = path.join(repository, "docs");
if (values.render || values.release) {
  await writeDocs(docs, undefined, NAMES, values.release);
  process.exit(0);
}

const absent = missing();
if (absent) {
  console.error(`${values.smoke ? "skipped: " : ""}${absent}`);
  process.exit(values.smoke ? 77 : 1);
}

const folder = await mkdtemp(path.join(os.tmpdir(), "spillway-bench-"));
await chmod(folder, 0o755);  // as root, PostgreSQL runs as somebody else
// The smoke times nothing, so it need not wait for the disk.
const postgres = new Postgres(path.join(folder, "postgres"), values.smoke ? { fsync: "off" } : {});
const say = (line) => process.stderr.write(`${line}\n`);
const bench = {
  postgres,
  folder,
  say,
  smoke: values.smoke,
  made: new Set(),  // databases that are made once
  size: (count) => values.smoke ? Math.max(1, Math.ceil(count / 200)) : Math.round(count),
  most: (count) => values.smoke ? Math.min(count, 50) : count,
  seconds: (time) => values.smoke ? 1 : time,
  inTurns: (contenders) => inTurns(rounds, contenders, say),
  // Figures of one pass that was not timed, in the form of the others.
  once: (figures) => Object.fromEntries(Object.entries(figures).map(([key, value]) => [key, typeof value === "number" ? summary([value]) : value])),
};

let stopped;
function clean() {
  stopped ??= (async () => {
    await endAll();
    await postgres.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  })();
  return stopped;
}
// A second signal changes nothing: it is being cleaned up.
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]])
  process.on(signal, () => clean().finally(() => process.exit(code)));

function machine() {
  return { cores: os.cpus().length, cpu: os.cpus()[0]?.model.trim() ?? "unknown", memoryGiB: Math.round(os.totalmem() / 2 ** 30), kernel: os.release() };
}

// Of the sources; none where they are no checkout.
const commit = () => run("git", ["-C", repository, "describe", "--always", "--dirty"]).then((name) => [name.trim()], () => []);

async function measure(row, measured) {
  say(`${row.name}: ${row.what}`);
  const result = await row.run(bench);
  const { what, unit, per, axis } = row;
  return { what, unit, per, axis, measured, ...result, ...(result.contenders ? { comparisons: compare(result.contenders, result.comparisons) } : {}) };
}

let failed = "";
try {
  await postgres.start();
  bench.template = await makeTemplate(postgres);
  const measured = {
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
    spillway: [(await run(binary(), ["--version"])).trim(), ...await commit()].join(" at "),
    postgres: postgres.version.replace(/ .*/, ""),
    node: process.version,
    peers: await versions(),
    rounds,
  };
  say(circumstances(measured));
  const report = { rows: {}, skipped: {} };
  for (const row of wanted) {
    const reason = await row.unavailable?.(bench);
    if (reason) {
      say(`${row.name}: skipped, ${reason}`);
      report.skipped[row.name] = reason;
      continue;
    }
    try {
      report.rows[row.name] = await measure(row, measured);
    } catch (error) {
      if (stopped) break;
      failed += `${row.name} failed: ${error.stack}\n`;
      say(`${row.name} failed: ${error.message}`);
    }
  }
  if (stopped) await stopped;  // the signal's handler ends the process
  const json = `${JSON.stringify(report, null, 1)}\n`;
  if (values.json) await writeFile(path.resolve(process.env.BENCH_STARTED_IN ?? ".", values.json), json);
  console.log(`${circumstances(measured)}\n\n${text(report)}`);
  failed += problems(JSON.parse(json), wanted.map((row) => row.name));
  if (values.docs && Object.keys(report.rows).length > 0) await writeDocs(docs, report, NAMES);
} catch (error) {
  failed += error.stack;
} finally {
  await clean();
}
if (failed) {
  console.error(`\nfailed:\n${failed}`);
  process.exit(1);
}
