// What conformance tests stand on: a worker on a database, the proxy in front, and clients of one kind.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

import { Worker, eventually, required } from "../support/worker.mjs";
import { Proxy } from "./proxy.mjs";
import { Reader } from "./reader.mjs";

const run = promisify(execFile);
const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

export class Stage {
  #database;
  #readers = new Set();
  #folder;
  proxy = new Proxy(() => this.worker.port);
  worker;
  options;  // of the worker

  // `database`: a started `spillway dev` that serves streams only; nobody asks it for them.
  constructor(adapter, database) {
    this.adapter = adapter;
    this.#database = database;
    this.worker = new Worker({ databaseUrl: database.databaseUrl });
  }

  // `options` of the worker, or what gives them for this stage.
  async start(options) {
    await this.proxy.start();
    this.#folder = await mkdtemp(path.join(tmpdir(), "spillway-keys-"));
    this.keyFile = path.join(this.#folder, "key");
    for (const name of ["key", "forged"]) await writeFile(path.join(this.#folder, name), randomBytes(48).toString("hex"), { mode: 0o600 });
    this.options = typeof options === "function" ? options(this) : options;
    await this.worker.start(this.options);
  }

  // The worker has to end in order.
  async finish() {
    await this.closeAll();
    const code = await this.worker.end("SIGTERM");
    if (code !== 0) throw new Error(`the worker ended with ${code}:\n${this.worker.output}`);
  }

  // Leaves nothing behind, whatever has failed before.
  async remove() {
    await this.closeAll().catch(() => {});
    this.proxy.stop();
    if (this.#folder) await rm(this.#folder, { recursive: true });
    await this.worker.remove();
  }

  // Pages' origins: the worker behind another name, and another server altogether.
  get otherOrigin() { return `http://localhost:${this.proxy.port}`; }
  get foreignOrigin() { return `http://127.0.0.1:${this.#database.port}`; }

  // Tokens as `spillway token` signs them, with the worker's key and with another one.
  token(...claims) { return this.#sign("key", claims); }
  forgedToken(...claims) { return this.#sign("forged", claims); }
  async #sign(key, claims) {
    const { stdout } = await run(required("SPILLWAY_BIN"), ["token", "--auth-key", path.join(this.#folder, key), ...claims]);
    return stdout.trim();
  }

  sql(statement) { return this.#database.sql(statement); }
  restartPostgres() { return this.#database.restartPostgres(); }

  // A client of the kind under test, behind a route of its own; its reader's `route` tells what it asked for.
  open(target, { types = [], plan, ...options } = {}) {
    const route = this.proxy.route(plan);
    const reader = new Reader();
    reader.route = route;
    this.#readers.add(reader);
    this.adapter.open(route.url(target), { types: ["message", "reset", ...types], ...options }, reader);
    return reader;
  }

  async close(reader) {
    this.#readers.delete(reader);
    await reader.close();
  }

  async closeAll() {
    await Promise.all([...this.#readers].map((reader) => this.close(reader)));
  }

  // Broadcasts in this order: [type, value] with a value that becomes JSON; a string is sent as text.
  broadcast(channel, broadcasts) {
    const rows = broadcasts.map(([type, value], index) => `(${index}, ${quoted(type)}, ${quoted(JSON.stringify(value))}::jsonb)`);
    return this.sql(`SELECT spillway.broadcast(${quoted(channel)}, type, data)
      FROM (VALUES ${rows.join(", ")}) AS given (number, type, data) ORDER BY number`);
  }

  // All that was broadcast on a channel, in order.
  async kept(channel) {
    const rows = await this.sql(`SELECT coalesce(json_agg(data ORDER BY position), '[]') FROM spillway.broadcasts WHERE channel = ${quoted(channel)}`);
    return JSON.parse(rows);
  }

  // A stream as bytes, from the worker itself: {status, headers, text, close}.
  raw(target, headers = {}) {
    return new Promise((resolve, reject) => {
      const request = http.get({ port: this.worker.port, host: "127.0.0.1", path: target, headers, agent: false }, (response) => {
        const stream = { status: response.statusCode, headers: response.headers, bytes: Buffer.alloc(0), ended: false, close: () => request.destroy() };
        response.on("data", (chunk) => { stream.bytes = Buffer.concat([stream.bytes, chunk]); });
        response.on("end", () => { stream.ended = true; });
        response.on("error", () => { stream.ended = true; });
        resolve(stream);
      });
      request.on("error", reject);
    });
  }

  // The bytes of a stream up to and with `end`.
  async bytesUntil(target, end, headers = {}) {
    const stream = await this.raw(target, headers);
    try {
      return await eventually(`${JSON.stringify(end)} on ${target}`, () => {
        const at = stream.bytes.indexOf(end);
        return at < 0 ? undefined : stream.bytes.subarray(0, at + end.length);
      });
    } finally {
      stream.close();
    }
  }

  // The head of the answer to HEAD, by curl.
  async curlHead(target) {
    const { stdout } = await run("curl", ["--silent", "--show-error", "--head", `http://127.0.0.1:${this.worker.port}${target}`]);
    return stdout;
  }

  // The id where a new stream of this channel starts.
  async head(channel) {
    const opening = await this.bytesUntil(`/sse?channel=${encodeURIComponent(channel)}`, "\n\n");
    return opening.toString().match(/^id: (.*)$/m)[1];
  }
}
