// `spillway dev` in a directory of its own, as a person would start it; and psql on its database.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, chmod, readdir, readFile, rm } from "node:fs/promises";
import { once } from "node:events";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const repository = fileURLToPath(new URL("../..", import.meta.url));

function required(name) {
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
  #directory;
  #process;
  #output = "";
  port = 0;  // any free one at the first start, the same one from then on
  databaseUrl = "";

  async start() {
    if (!this.#directory) {
      this.#directory = await mkdtemp(path.join(tmpdir(), "spillway-browser-"));
      await chmod(this.#directory, 0o755);  // as root, PostgreSQL runs as somebody else
    }
    const portFile = path.join(this.#directory, "port");
    await rm(portFile, { force: true });
    this.#output = "";
    const { DATABASE_URL: _, ...environment } = process.env;
    this.#process = spawn(required("SPILLWAY_BIN"), [
      "dev",
      "--dir", path.join(this.#directory, "data"),
      "--init", path.join(repository, "examples/comments/schema.sql"),
      "--handlers", required("SPILLWAY_COMMENTS"),
      "--listen", `127.0.0.1:${this.port}`,
      "--port-file", portFile,
    ], { env: environment, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text) => { this.#output += text; });
    }
    let failure;
    this.#process.on("error", (error) => { failure = error; });
    await eventually("spillway dev to say where it listens", async () => {
      if (failure) throw failure;
      if (this.#process.exitCode !== null) throw new Error(`spillway dev ended:\n${this.#output}`);
      const url = this.#output.match(/^\s*DATABASE_URL=(.+)$/m)?.[1].trim().replace(/^'(.*)'$/, "$1");
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

  // Leaves nothing behind, whatever has failed before.
  async remove() {
    if (!this.#directory) return;
    if (this.#process?.exitCode === null && this.#process.signalCode === null) await this.end("SIGKILL");
    for (const file of await readdir(this.#directory, { recursive: true }).catch(() => [])) {
      if (path.basename(file) !== "postmaster.pid") continue;
      const server = Number((await readFile(path.join(this.#directory, file), "utf8")).split("\n")[0]);
      try {
        process.kill(server, "SIGINT");
        await eventually("PostgreSQL to end", () => {
          try { process.kill(server, 0); return undefined; } catch { return true; }
        });
      } catch { /* it has gone already */ }
    }
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }
}
