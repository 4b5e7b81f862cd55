import assert from "node:assert/strict";
import test from "node:test";

import { Process, cpuOf, run } from "../lib/processes.mjs";

test("the CPU of children that have ended is their parent's", async () => {
  // The inner shell works until it has used a tick or more, ends, and is waited for by the outer one.
  const parent = new Process("sh", ["-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; echo over; read line"], { input: "pipe" });
  await parent.line(/over/);
  const { user, system } = cpuOf(parent.pid);
  parent.close();
  await parent.ended;
  assert.ok(user + system > 0);
});

test("a command that fails says what it said", async () => {
  await assert.rejects(run("sh", ["-c", "echo to its output; echo and its errors >&2; exit 3"]), /ended with 3:\n[^]*its output[^]*its errors|ended with 3:\n[^]*its errors[^]*its output/);
  assert.equal(await run("sh", ["-c", "cat; echo unheard >&2"], { input: "given" }), "given");
});

test("waiting for a line ends when the process does", async () => {
  const child = new Process("sh", ["-c", "echo first"]);
  await assert.rejects(child.line(/second/), /ended \(0\) without/);
});
