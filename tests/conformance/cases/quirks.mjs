// What clients do against the standard, or what their users have to see to: precisely, for the versions in
// package.json. docs/streams.md says the same. A new version that behaves otherwise fails here, and the table
// is to be mended. `without` names what of the adapter's own is left out.
import assert from "node:assert/strict";

import { eventually } from "../../support/worker.mjs";
import { cutAt, expected, prepare } from "./cuts.mjs";

const once = (after, how) => (number) => (number === 0 ? { after, how } : undefined);

export const quirks = [
  {
    name: "without a fetch of its own, it loses the event whose id line came whole while the blank line behind it did not",
    only: ["fetch-event-source"],
    async run(stage) {
      const { bytes, opening, last } = await prepare(stage);
      const text = bytes.toString("latin1");
      const ends = [...text.matchAll(/\nid: .*\n(?=\n)/g)].map((match) => match.index + match[0].length)
        .filter((end) => end > opening && end < last);
      assert.equal(ends.length, expected.length - 1);
      for (const [index, after] of ends.entries()) {
        const { events } = await cutAt(stage, after, "rst", { without: ["fetch"] });
        assert.deepEqual(events, expected.filter((_, number) => number !== index));
        // One byte less or more, and it has them all.
        for (const other of [after - 1, after + 1])
          assert.deepEqual((await cutAt(stage, other, "rst", { without: ["fetch"] })).events, expected);
      }
    },
  },
  {
    name: "without onclose, it is over for good when a stream ends in order",
    only: ["fetch-event-source"],
    async run(stage) {
      const reader = stage.open("/sse/Quirks/end", { without: ["onclose"], plan: once("opening", "fin") });
      await reader.until("it to be over", () => reader.closed);
      return () => assert.equal(reader.route.requests.length, 1);
    },
  },
  {
    name: "without a look at the status, it comes back again and again after a refusal",
    only: ["fetch-event-source", "eventsource-client"],
    async run(stage) {
      const reader = stage.open("/nowhere", { without: ["fetch", "onopen"] });
      await eventually("a third request", () => reader.route.requests.length >= 3 || undefined);
      assert.ok(!reader.closed);
      // With its own delay, one second or two: `retry:` never came.
      const [first, second] = reader.route.requests;
      assert.ok(second.at - first.at >= 900, `came back after ${second.at - first.at} ms`);
      await stage.close(reader);
    },
  },
  {
    name: "without HEAD and a new one, it is over for good when nobody is there at the moment it comes back",
    only: ["undici"],
    async run(stage) {
      const reader = stage.open("/sse/Quirks/gone", {
        without: ["HEAD"],
        plan: (number) => (number === 0 ? { after: "opening", how: "rst" } : { refuse: true }),
      });
      await reader.until("it to be over", () => reader.closed);
      return () => assert.equal(reader.route.requests.length, 2);
    },
  },
];
