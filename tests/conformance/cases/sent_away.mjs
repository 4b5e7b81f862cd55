// A server that is full: clients come back when they are told to.
import assert from "node:assert/strict";

import { eventually } from "../../support/worker.mjs";

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

export const sentAway = [
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
