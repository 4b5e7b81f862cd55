// The conformance cases for one client: node run.mjs CLIENT [PATTERN], a client is a file in clients/.
// With a pattern only the cases whose name matches.
import test from "node:test";

import { cuts, retries } from "./cases/cuts.mjs";
import { frames } from "./cases/frames.mjs";
import { outages, restarts } from "./cases/outages.mjs";
import { quirks } from "./cases/quirks.mjs";
import { refusals } from "./cases/refusals.mjs";
import { expiry, resets } from "./cases/resets.mjs";
import { sentAway } from "./cases/sent_away.mjs";
import { tokenOptions, tokens } from "./cases/tokens.mjs";
import { Worker } from "../support/worker.mjs";
import { Stage } from "./stage.mjs";

const [client, pattern = ""] = process.argv.slice(2);
const adapter = await import(`./clients/${client}.mjs`).catch((error) => {
  if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
  console.error(`${error.message}\nA client is a file in tests/conformance/clients; scripts/node-tools installs what it needs.`);
  process.exit(1);
});
if (adapter.skipped) {
  console.log(adapter.skipped);
  process.exit(77);
}

const streams = ["--sse-retry", "20ms", "--heartbeat", "1s"];

// A phase is a worker with its options. Cases of its first list run at the same time, each on channels of
// its own; those of the second, which disturb others, one after the other. Phases run at the same time too,
// on one database; the last one, which disturbs that, runs alone.
const phases = [
  { options: streams, together: [...frames, ...resets, ...refusals, ...quirks, ...cuts], alone: [...retries, ...restarts] },
  { options: ["--sse-retry", "1100ms", "--max-connections", "8"], together: [], alone: sentAway },
  { options: tokenOptions, together: tokens, alone: [] },
];
const last = { options: streams, together: [], alone: [...expiry, ...outages] };

const wanted = ({ name, only, when }) =>
  (!only || only.includes(client)) && (!when || when({ adapter })) && new RegExp(pattern).test(name);

test(client, { timeout: 290_000, concurrency: true }, async (t) => {
  const database = new Worker({ options: ["--roles", "sse"] });
  const stages = [];
  t.after(async () => {
    for (const stage of stages) await stage.remove();
    await adapter.stop?.();
    await database.remove();
  });

  async function run({ options, together, alone }) {
    const [side, row] = [together.filter(wanted), alone.filter(wanted)];
    if (side.length + row.length === 0) return;
    const stage = new Stage(adapter, database);
    stages.push(stage);
    await stage.start(options);
    const afterwards = [];
    const one = (each) => t.test(each.name, async () => { afterwards.push(await each.run(stage)); });
    await Promise.all(side.map(one));
    for (const each of row) await one(each);
    // What must not have happened since, e.g. that a client came back which had given up.
    for (const check of afterwards) check?.();
    await stage.finish();
  }

  // Whatever fails, nothing is left that still starts.
  const all = async (tasks) => {
    for (const { reason } of await Promise.allSettled(tasks)) if (reason) throw reason;
  };
  await all([database.start(), adapter.start?.()]);
  await all(phases.map(run));
  await run(last);
});
