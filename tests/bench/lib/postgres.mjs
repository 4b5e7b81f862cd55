// A private PostgreSQL with its data on disk and fsync on, reached through a Unix socket.
import { chmod, mkdir, readFile, rm, appendFile, chown } from "node:fs/promises";
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { SERVER, cpuEach, cpuOf, run } from "./processes.mjs";

export function binaries() {
  const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
  versions.sort((a, b) => Number(b) - Number(a));
  const folders = [...versions.map((version) => path.join("/usr/lib/postgresql", version, "bin")), ...(process.env.PATH ?? "").split(":")];
  const found = folders.find((folder) => ["initdb", "pg_ctl", "pgbench"].every((program) => existsSync(path.join(folder, program))));
  if (!found) throw new Error("PostgreSQL's server and pgbench are not installed; run scripts/prepare --bench");
  return found;
}

const SETTINGS = {
  listen_addresses: "''",
  fsync: "on",
  synchronous_commit: "on",
  shared_buffers: "512MB",
  max_wal_size: "8GB",
  max_connections: "300",
  checkpoint_timeout: "30min",
};

export class Postgres {
  #bin;

  // The program itself: what Debian has on the path is a script that looks for it, for 50 ms.
  get psql() { return path.join(this.#bin, "psql"); }

  // `settings`: in place of those above, or beside them.
  constructor(folder, settings = {}) {
    this.folder = folder;
    this.more = settings;
    this.#bin = binaries();
  }

  async start() {
    const data = path.join(this.folder, "data");
    await mkdir(this.folder, { recursive: true });
    // As root, PostgreSQL refuses to run; it runs as the user that its package has made.
    this.user = process.getuid() === 0 ? "postgres" : undefined;
    if (this.user) {
      const [uid, gid] = (await run("id", ["-u", this.user])).concat(await run("id", ["-g", this.user])).trim().split("\n").map(Number);
      await chown(this.folder, uid, gid);
    }
    await chmod(this.folder, 0o755);
    await this.#as("initdb", ["-D", data, "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8"]);
    const settings = { ...SETTINGS, ...this.more, unix_socket_directories: `'${this.folder}'`, unix_socket_permissions: "0777" };
    await appendFile(path.join(data, "postgresql.conf"), Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`).join(""));
    await this.#as("pg_ctl", ["-D", data, "-l", path.join(this.folder, "log"), "-w", "start"]);
    this.pid = Number((await readFile(path.join(data, "postmaster.pid"), "utf8")).split("\n")[0]);
    this.version = (await this.sql("postgres", "SHOW server_version")).trim();
  }

  // Also when it was still starting.
  async stop() {
    const data = path.join(this.folder, "data");
    if (existsSync(path.join(data, "postmaster.pid")))
      await this.#as("pg_ctl", ["-D", data, "-m", "immediate", "-w", "stop"], { last: true }).catch(() => {});
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  #as(program, args, options) {
    const command = path.join(this.#bin, program);
    return this.user ? run("runuser", ["-u", this.user, "--", command, ...args], options) : run(command, args, options);
  }

  url(database) { return `host=${this.folder} user=postgres dbname=${database}`; }

  async sql(database, statement) {
    return run(this.psql, ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", this.url(database)], { input: statement });
  }
  pgbench(database, args) { return run(path.join(this.#bin, "pgbench"), [...args, this.url(database)]); }

  async create(database, template = "template1") {
    await this.drop(database);
    await this.sql("postgres", `CREATE DATABASE "${database}" TEMPLATE "${template}" STRATEGY file_copy`);
  }
  async drop(database) { await this.sql("postgres", `DROP DATABASE IF EXISTS "${database}" WITH (FORCE)`); }

  // Seconds of CPU of all its processes together.
  cpu() { return cpuOf(this.pid); }

  // What `work` writes to the log and takes of the CPU here, for each of `count` units:
  // {serverUserUs, serverSystemUs, walBytes}, and what `work` answers.
  async measured(database, work) {
    const position = (await this.sql(database, "SELECT pg_current_wal_insert_lsn()")).trim();
    const before = this.cpu();
    const answer = await work();
    const after = this.cpu();
    const bytes = Number(await this.sql(database, `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '${position}')`));
    return { answer, each: (count) => ({ ...cpuEach(before, after, count, SERVER), walBytes: bytes / count }) };
  }
}
