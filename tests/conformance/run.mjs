// The conformance cases for one client: node run.mjs CLIENT [PATTERN], a client is a file in clients/.
// With a pattern only the cases whose name matches.
import test from "node:test";

import { comingBack } from "./cases/coming_back.mjs";
import { cuts } from "./cases/cuts.mjs";
import { frames } from "./cases/frames.mjs";
import { outages } from "./cases/outages.mjs";
import { quirks } from "./cases/quirks.mjs";
import { refusals } from "./cases/refusals.mjs";
import { resets } from "./cases/resets.mjs";
import { tokenOptions, tokens } from "./cases/tokens.mjs";
import { Stage } from "./stage.mjs";

const [client, pattern = ""] = process.argv.slice(2);
const adapter = await import(`./clients/${client}.mjs`);
if (adapter.skipped) {
  console.log(adapter.skipped);
  process.exit(77);
}

// A phase is a worker with its options. Cases of its first list run at the same time, each on channels of
// its own; those of the second, which disturb others, one after the other.
const phases = [
  {
    name: "streams",
    options: ["--sse-retry", "20ms", "--heartbeat", "1s"],
    together: [...frames, ...resets, ...refusals, ...quirks, ...cuts],
    alone: outages,
  },
  {
    name: "a full server",
    options: ["--sse-retry", "1100ms", "--max-connections", "8"],
    together: [],
    alone: comingBack,
  },
  { name: "tokens", options: tokenOptions, together: tokens, alone: [] },
];

const wanted = ({ name, only, when }) =>
  (!only || only.includes(client)) && (!when || when({ adapter })) && new RegExp(pattern).test(name);

test(client, { timeout: 170_000, concurrency: true }, async (t) => {
  const stage = new Stage(adapter);
  t.after(() => stage.stop());
  const started = await Promise.allSettled([stage.start(), adapter.start?.()]);
  for (const { reason } of started) if (reason) throw reason;
  for (const { options, together, alone } of phases) {
    const [side, row] = [together.filter(wanted), alone.filter(wanted)];
    if (side.length + row.length === 0) continue;
    stage.options = typeof options === "function" ? options(stage) : options;
    await stage.worker.start(stage.options);
    const afterwards = [];
    const run = (each) => t.test(each.name, async () => { afterwards.push(await each.run(stage, client)); });
    await Promise.all(side.map(run));
    for (const each of row) await run(each);
    // What must not have happened since, e.g. that a client came back which had given up.
    for (const check of afterwards) check?.();
    await stage.closeAll();
    const code = await stage.worker.end("SIGTERM");
    if (code !== 0) throw new Error(`the worker ended with ${code}:\n${stage.worker.output}`);
  }
});
