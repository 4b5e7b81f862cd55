// Child processes: start, wait for a line, end; and what they have used of the machine (/proc).
import { spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";

const TICKS = 100;  // USER_HZ, which Linux has fixed for what it shows in /proc

const running = new Set();
let over = false;

export class Process {
  output = "";
  #child;
  #waiting = [];

  // `last`: may start although all is being ended.
  constructor(command, args, { env = {}, name = command, input = "ignore", last = false } = {}) {
    if (over && !last) throw new Error("stopped");
    this.name = name;
    this.#child = spawn(command, args, { env: { ...process.env, ...env }, stdio: [input, "pipe", "pipe"] });
    running.add(this);
    this.stdout = "";
    this.#child.stdout.setEncoding("utf8").on("data", (text) => { this.stdout += text; this.output += text; this.#look(); });
    this.#child.stderr.setEncoding("utf8").on("data", (text) => { this.output += text; this.#look(); });
    this.#child.stdin?.on("error", () => {});  // it has ended, which its exit code says
    this.ended = new Promise((resolve) => {
      this.#child.on("error", (error) => { this.output += error.message; resolve(-1); });
      this.#child.on("close", (code, signal) => resolve(code ?? signal));
    });
    this.ended.then((code) => { running.delete(this); this.code = code; this.#look(); });
  }

  get pid() { return this.#child.pid; }
  write(text) { this.#child.stdin.write(text); }
  close() { this.#child.stdin.end(); }

  // The first match in what it has said so far, as soon as there is one.
  line(pattern) {
    return new Promise((resolve, reject) => { this.#waiting.push({ pattern, resolve, reject }); this.#look(); });
  }

  #look() {
    this.#waiting = this.#waiting.filter(({ pattern, resolve, reject }) => {
      const found = this.output.match(pattern);
      if (found) resolve(found);
      else if (this.code !== undefined) reject(new Error(`${this.name} ended (${this.code}) without "${pattern}":\n${this.output.slice(-2000)}`));
      else return true;
      return false;
    });
  }

  async end(signal = "SIGTERM") {
    if (this.code === undefined) this.#child.kill(signal);
    return this.ended;
  }
}

// Ends whatever still runs, and lets nothing start any more. First gently: a killed nginx leaves its
// worker behind.
export async function endAll() {
  over = true;
  const left = [...running];
  const late = setTimeout(() => { for (const process of left) process.end("SIGKILL"); }, 5000);
  await Promise.all(left.map((process) => process.end("SIGTERM")));
  clearTimeout(late);
}

// Runs to the end and answers stdout; throws with all output when the exit code is not 0.
export async function run(command, args, { env, input = "", last } = {}) {
  const child = new Process(command, args, { env, last, input: "pipe" });
  child.write(input);
  child.close();
  const code = await child.ended;
  if (code !== 0) throw new Error(`${command} ${args.join(" ").slice(0, 300)} ended with ${code}:\n${child.output.slice(-2000)}`);
  return child.stdout;
}

function stat(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [user, system, childUser, childSystem] = fields.slice(11, 15).map(Number);
  return { parent: Number(fields[1]), user, system, childUser, childSystem };
}

function childrenWithStat(pid) {
  const children = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const one = stat(entry);
      if (one.parent === pid) children.push({ pid: Number(entry), ...one });
    } catch { /* it ended just now */ }
  }
  return children;
}

export const childrenOf = (pid) => childrenWithStat(pid).map((child) => child.pid);

// Seconds of CPU, user and system, of a process and of those it has started. Linux adds a child's time
// to its parent when the parent has waited for it, and shows the child until then; so when a child was
// waited for between the two looks, they are repeated.
export function cpuOf(pid) {
  for (;;) {
    const before = stat(pid);
    const children = childrenWithStat(pid);
    const after = stat(pid);
    if (before.childUser !== after.childUser || before.childSystem !== after.childSystem) continue;
    const total = { user: 0, system: 0 };
    for (const one of [after, ...children]) {
      total.user += (one.user + one.childUser) / TICKS;
      total.system += (one.system + one.childSystem) / TICKS;
    }
    return total;
  }
}

// What `count` units of work took of the CPU, in microseconds each. Names: {user: "userUs", …}.
export function cpuEach(before, after, count, names = { user: "userUs", system: "systemUs" }) {
  return {
    [names.user]: (after.user - before.user) / count * 1e6,
    [names.system]: (after.system - before.system) / count * 1e6,
  };
}
export const SERVER = { user: "serverUserUs", system: "serverSystemUs" };

// Bytes of memory that are the process's alone (anonymous pages).
export function privateMemoryOf(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(text.match(/^Anonymous:\s+(\d+) kB/m)[1]) * 1024;
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
