// The peers, each on a fresh database of the same server.
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { MODULE, Nchan } from "./nchan.mjs";
import { binaries } from "./postgres.mjs";
import { Process, cpuEach, run } from "./processes.mjs";
import { COMMENT, repository } from "./spillway.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const script = (name) => path.join(here, "../peers", name);
const modules = path.join(here, "../node_modules");
const environment = (bench, database) => ({ PGHOST: bench.postgres.folder, PGUSER: "postgres", PGDATABASE: database, NO_LOG_SUCCESS: "1" });

const NPM = ["graphile-worker", "pg-boss", "better-sse"];
const manifest = (name) => JSON.parse(readFileSync(path.join(modules, name, "package.json"), "utf8"));

// Why the rows cannot be measured here, or undefined.
export function missing() {
  const absent = NPM.filter((name) => !existsSync(path.join(modules, name)));
  if (absent.length > 0) return `${absent.join(", ")} not installed: scripts/node-tools tests/bench`;
  if (Number(process.versions.node.split(".")[0]) < 20) return `the peers need Node 20, this is ${process.version}`;
  if (!existsSync(MODULE)) return `${MODULE} is missing: scripts/prepare --bench installs Debian's libnginx-mod-nchan`;
  try { binaries(); } catch (error) { return error.message; }
  return undefined;
}

export async function versions() {
  return [...NPM.map((name) => `${name} ${manifest(name).version}`), `Nchan ${await Nchan.version()}`].join(", ");
}

async function fresh(bench, database) {
  await bench.postgres.create(database);
  await bench.postgres.sql(database, await readFile(path.join(repository, "examples/comments/schema.sql"), "utf8"));
}

export const graphileJobs = (first, last) => `SELECT graphile_worker.add_jobs(array_agg(('CommentAdded',
    json_build_object('comment_id', g::text, 'item_id', (g % 100)::text, 'author_name', 'Ada',
      'text', '${COMMENT}', 'timestamp', '2026-01-01T00:00:00Z'),
    NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec)) FROM generate_series(${first}, ${last}) g;`;

async function graphileDatabase(bench, database) {
  await fresh(bench, database);
  await run("node", [path.join(modules, "graphile-worker/dist/cli.js"), "--schema-only", "-c", `socket:${bench.postgres.folder}?db=${database}`],
    { env: environment(bench, database) });
}

// A peer's script works off `count` jobs and prints what that took it.
async function drained(bench, database, args, count) {
  await bench.postgres.sql(database, "VACUUM ANALYZE; CHECKPOINT;");
  const { answer, each } = await bench.postgres.measured(database, () => run("node", args, { env: environment(bench, database) }));
  await bench.postgres.drop(database);
  const { seconds, cpu } = JSON.parse(answer.trim().split("\n").at(-1));
  return { value: count / seconds, ...cpuEach({ user: 0, system: 0 }, { user: cpu.user / 1e6, system: cpu.system / 1e6 }, count), ...each(count) };
}

export async function graphileDrain(bench, work, count) {
  await graphileDatabase(bench, "graphile");
  await bench.postgres.sql("graphile", graphileJobs(1, count));
  return drained(bench, "graphile", [script("graphile_worker.mjs"), "drain", work, String(count)], count);
}

// graphile-worker with better-sse: a process that handles jobs and serves streams.
export async function graphileServing(bench, database, channels) {
  await graphileDatabase(bench, database);
  const server = new Process("node", [script("graphile_worker.mjs"), "serve", String(channels)], { env: environment(bench, database), name: "graphile-worker" });
  const [, port] = await server.line(/listening (\d+)/);
  return Object.assign(server, { port: Number(port) });
}

export async function pgBossDrain(bench, count) {
  await fresh(bench, "pgboss");
  await run("node", [script("pg_boss.mjs"), "prepare", String(count)], { env: environment(bench, "pgboss") });
  return drained(bench, "pgboss", [script("pg_boss.mjs"), "drain", String(count)], count);
}
