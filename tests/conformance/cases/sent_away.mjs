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
      // `retry:`, perhaps a comment, and no frame.
      const inVain = () => reader.route.requests.find(({ start }) => /^retry: \d+\n(:.*\n)?\n$/.test(start));
      let connected = 0;
      await eventually("its place to be taken while it is away, and a visit in vain", async () => {
        if (reader.openings.length > connected) {  // it was faster than we were
          connected = reader.openings.length;
          reader.route.drop();
        }
        fillers.push(...await fill(stage));
        return inVain();
      });
      await stage.broadcast("Full:a", [["T", "two"]]);
      assert.match(inVain().head, /^HTTP\/1\.1 200 /);
      for (const filler of fillers) filler.close();
      await reader.connected(connected + 1);
      await reader.has(2);
      assert.deepEqual(reader.data, ["one", "two"]);
      assert.ok(!reader.closed);
      // `retry:` is a lower bound, and above what fetch-event-source and the polyfill have by themselves.
      assert.ok(reader.route.waits[0] >= 1090, `came back after ${reader.route.waits[0]} ms`);
    },
  },
];
