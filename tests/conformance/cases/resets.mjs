// An id that cannot be continued from: `reset` first, then live events.
import assert from "node:assert/strict";

import { eventually } from "../../support/worker.mjs";

async function expectReset(stage, channel, lastEventId, reason) {
  const reader = stage.open(`/sse?channel=${channel}`, { types: ["T"], lastEventId });
  await reader.connected();
  await reader.has(1);
  const [reset] = reader.events;
  assert.equal(reset.type, "reset");
  const data = JSON.parse(reset.data);
  assert.equal(data.reason, reason);
  assert.equal(data.requested, lastEventId);
  assert.ok(reset.id.endsWith(`-${data.head}`), `${reset.id} is the head ${data.head}`);
  await stage.broadcast(channel, [["T", "live"]]);
  await reader.has(2);
  assert.deepEqual(reader.data.slice(1), ["live"]);

  // The reset's id is one to go on from: whoever is cut off now is not reset again.
  reader.route.drop();
  await reader.connected(2);
  await stage.broadcast(channel, [["T", "after a cut"]]);
  await reader.has(3);
  assert.deepEqual(reader.data.slice(1), ["live", "after a cut"]);
}

const reset = (reason, id) => ({
  name: `an id that is ${reason}: reset, then live`,
  run: async (stage) => expectReset(stage, `Reset:${reason}`, await id(stage), reason),
});

export const resets = [
  reset("invalid", async () => "no such id"),
  reset("epoch", async () => "ffffffff-5"),
  reset("future", async (stage) => `${(await stage.head("Reset:future")).split("-")[0]}-999999999`),
];

// It drops every broadcast there is.
export const expiry = [
  {
    name: "an id that is expired: reset, then live",
    async run(stage) {
      const id = await stage.head("Reset:expired");
      const reader = stage.open("/sse?channel=Reset:expired", { types: ["T"] });
      await reader.connected();
      await stage.broadcast("Reset:expired", [["T", "thrown away"]]);
      await reader.has(1);
      await stage.close(reader);
      // All that is there is closed, and dropped; a worker that starts anew has nothing of it in memory.
      await eventually("broadcasts to be dropped", async () => {
        await stage.sql("SELECT spillway.extend_broadcasts(100, 'infinity')");
        await stage.sql("SELECT spillway.drop_broadcasts('infinity', NULL, NULL)");
        return (await stage.sql("SELECT floor = last FROM spillway.stream_head")) === "t" ? true : undefined;
      });
      await stage.worker.end("SIGKILL");
      await stage.worker.start(stage.options);
      await expectReset(stage, "Reset:expired", id, "expired");
    },
  },
];
