// A `spillway` process, and psql on its database. `spillway dev` has a directory with a PostgreSQL of its
// own, `spillway run` somebody else's database.
import { execFile, spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, readlink, rm, stat } from "node:fs/promises";
import { once } from "node:events";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
export const repository = fileURLToPath(new URL("../..", import.meta.url));

export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; ctest sets it, by hand give the path of the built file`);
  return value;
}

// The condition's first value that is not undefined. Rejects, naming the condition, at the deadline.
export async function eventually(what, condition, milliseconds = 30_000) {
  const deadline = Date.now() + milliseconds;
  for (;;) {
    const value = await condition();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`waited ${milliseconds} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export class Worker {
  #options;
  #directory;
  #process;
  #output = "";
  port = 0;  // any free one at the first start, the same one from then on
  databaseUrl;

  // Without `databaseUrl` it is `spillway dev`, with it `spillway run`.
  constructor({ options = [], databaseUrl = "" } = {}) {
    this.#options = options;
    this.databaseUrl = databaseUrl;
    this.own = !databaseUrl;
  }

  // `more`: options for this start only.
  async start(more = []) {
    if (!this.#directory) {
      this.#directory = await mkdtemp(path.join(tmpdir(), "spillway-node-"));
      await chmod(this.#directory, 0o755);  // as root, PostgreSQL runs as somebody else
    }
    const portFile = path.join(this.#directory, "port");
    await rm(portFile, { force: true });
    this.#output = "";
    const { DATABASE_URL: _, ...environment } = process.env;
    this.#process = spawn(required("SPILLWAY_BIN"), [
      ...(this.own ? ["dev", "--dir", path.join(this.#directory, "data")] : ["run", "--database-url", this.databaseUrl]),
      "--listen", `127.0.0.1:${this.port}`,
      "--port-file", portFile,
      ...this.#options,
      ...more,
    ], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => { this.#output += text; });
    }
    let failure;
    this.#process.on("error", (error) => { failure = error; });
    await eventually("spillway to say where it listens", async () => {
      if (failure) throw failure;
      if (this.#process.exitCode !== null) throw new Error(`spillway ended:\n${this.#output}`);
      const url = this.own
        ? this.#output.match(/^\s*DATABASE_URL=(.+)$/m)?.[1].trim().replace(/^'(.*)'$/, "$1")
        : this.databaseUrl;
      const port = Number(await readFile(portFile, "utf8").catch(() => ""));
      if (!url || !port) return undefined;
      this.databaseUrl = url;
      this.port = port;
      return true;
    }, 60_000).catch((error) => { throw new Error(`${error.message}\n${this.#output}`); });
  }

  get url() { return `http://127.0.0.1:${this.port}/`; }
  get output() { return this.#output; }

  // Ends the worker's process with `signal`; answers its exit code (null after SIGKILL).
  async end(signal) {
    const ended = once(this.#process, "exit");
    this.#process.kill(signal);
    const [code] = await ended;
    return code;
  }

  async sql(statement) {
    const { stdout } = await run("psql", [this.databaseUrl, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]);
    return stdout.trim();
  }

  // The process id of the PostgreSQL of `spillway dev`; 0 when it does not run.
  async #server() {
    const file = path.join(this.#directory, "data/pg/data/postmaster.pid");
    return Number((await readFile(file, "utf8").catch(() => "")).split("\n")[0]);
  }

  async #stopServer(id, signal) {
    try {
      process.kill(id, signal);
      await eventually("PostgreSQL to end", () => {
        try { process.kill(id, 0); return undefined; } catch { return true; }
      });
    } catch { /* it has gone already */ }
  }

  // Stops the PostgreSQL of `spillway dev` (its sessions are cut), and starts it again as it was started.
  async restartPostgres() {
    const server = await this.#server();
    const command = (await readFile(`/proc/${server}/cmdline`, "utf8")).split("\0").slice(0, -1);
    const { uid, gid } = await stat(`/proc/${server}`);
    const cwd = await readlink(`/proc/${server}/cwd`);
    await this.#stopServer(server, "SIGINT");
    spawn(command[0], command.slice(1), { uid, gid, cwd, detached: true, stdio: "ignore" }).unref();
    await eventually("PostgreSQL to take connections again", () => this.sql("SELECT 1").then(() => true, () => undefined));
  }

  // Leaves nothing behind, whatever has failed before.
  async remove() {
    if (!this.#directory) return;
    if (this.#process?.exitCode === null && this.#process.signalCode === null) await this.end("SIGKILL");
    const server = await this.#server();
    if (server) await this.#stopServer(server, "SIGINT");
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }
}
