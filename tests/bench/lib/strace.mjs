// System calls of a running process and all its threads, counted by strace. That makes the process many
// times slower, so nothing is timed meanwhile.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { Process } from "./processes.mjs";

// strace -c: "% time, seconds, usecs/call, calls, errors (or nothing), syscall" and a line of totals.
export function parseCounts(text) {
  const counts = {};
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const name = fields.at(-1);
    if (/^[\d.]+$/.test(fields[0]) && fields.length >= 5 && name !== "total") counts[name] = (counts[name] ?? 0) + Number(fields[3]);
  }
  return counts;
}

let number = 0;

export class CallCounter {
  #strace;
  #file;

  // Undefined, with a word about it, where this machine does not allow it.
  static async attach(bench, pid) {
    const counter = new CallCounter();
    counter.#file = path.join(bench.folder, `strace-${++number}`);
    counter.#strace = new Process("strace", ["-f", "-c", "-o", counter.#file, "-p", String(pid)]);
    try {
      await counter.#strace.line(/attached/);
      return counter;
    } catch (error) {
      bench.say(`  no system calls are counted: ${error.message.replaceAll("\n", " ")}`);
      return undefined;
    }
  }

  // Calls for each of `count` units of work: {systemCalls, systemCallsByName}, the rarest ones left out.
  async end(count) {
    await this.#strace.end("SIGINT");
    const counts = Object.entries(parseCounts(await readFile(this.#file, "utf8"))).sort((a, b) => b[1] - a[1]);
    const all = counts.reduce((sum, [, calls]) => sum + calls, 0);
    return {
      systemCalls: all / count,
      systemCallsByName: Object.fromEntries(counts.filter(([, calls]) => calls >= all / 100).map(([name, calls]) => [name, calls / count])),
    };
  }
}
