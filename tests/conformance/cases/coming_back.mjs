// A server that is full, and one that has thrown away what a client wants: it comes back when it is told to.
import assert from "node:assert/strict";

import { eventually } from "../../support/worker.mjs";
import { expectReset } from "./resets.mjs";

// Takes all places that are left; answers what gives them back.
async function fill(stage) {
  const streams = [];
  for (;;) {
    const stream = await stage.raw("/sse/Full/filler");
    const opened = await eventually("a stream to open or end", () =>
      (stream.bytes.includes("connected") ? true : stream.ended ? false : undefined));
    if (!opened) return streams;
    streams.push(stream);
  }
}

export const comingBack = [
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
  {
    name: "a full server sends a client away for a while, and it loses nothing",
    async run(stage) {
      const reader = stage.open("/sse/Full/a", { types: ["T"] });
      await reader.connected();
      await stage.broadcast("Full:a", [["T", "one"]]);
      await reader.has(1);
      const fillers = await fill(stage);
      reader.route.drop();  // and its place is taken before it is back
      await eventually("the place to be free, and taken", async () => {
        const taken = await fill(stage);
        fillers.push(...taken);
        return taken.length > 0 || undefined;
      });
      await stage.broadcast("Full:a", [["T", "two"]]);
      await eventually("a visit in vain", () => reader.route.requests.length >= 3 || undefined);
      assert.match(reader.route.requests[1].head, /^HTTP\/1\.1 200 /);
      assert.equal(reader.openings.length, 1);
      for (const filler of fillers) filler.close();
      await reader.connected(2);
      await reader.has(2);
      assert.deepEqual(reader.data, ["one", "two"]);
      assert.ok(!reader.closed);
      // `retry:` is a lower bound.
      assert.ok(reader.route.waits[0] >= 1000, `came back after ${reader.route.waits[0]} ms`);
    },
  },
];
