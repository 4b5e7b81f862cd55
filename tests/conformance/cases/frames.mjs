// What is broadcast arrives as it was: types, data, order, ids.
import assert from "node:assert/strict";

import { eventually } from "../../support/worker.mjs";

// CR, LF and CRLF all are line ends on the wire; a client puts lines together with LF.
const lines = (text) => text.replace(/\r\n?/g, "\n");

const texts = [
  ["", "without a type"],
  ["message", "a type that is the default's name"],
  ["CommentAdded", "named"],
  ["Größe 🎈", "a type in unicode"],
  ["42", "a number as type"],
  ["a:b", "a colon in the type"],
  ["Text", "line one\nline two\n\nline four"],
  ["Text", "CRLF\r\nlone CR\rLF\nend"],
  ["Text", "ends with a line end\n"],
  ["Text", "line separators \u2028 and \u2029 and \u0085 are text"],
  ["Text", "𝄞 😀 ünï  漢字 \u{10FFFF}"],
  ["Text", " a leading space"],
  ["Text", "   three leading spaces  and trailing  "],
  ["Text", "\ta tab"],
  ["Text", ": a leading colon"],
  ["Text", "data: not a field\nevent: nor this\nid: nor this\nretry: 5"],
  ["Text", ""],
  ["Text", "\n"],
  ["Text", "\n\nafter two empty lines"],
  ["Text", "\uFEFFa byte order mark first"],
  ["Text", "a byte order mark \uFEFF within"],
  ["Text", "quotes \" ' \\ and </script>"],
];

const values = [
  [42, "42"], [-1.5, "-1.5"], [true, "true"], [null, "null"], [[1, [2]], "[1,[2]]"],
  [{ text: "a\nb \u2028 😀", n: 9007199254740991 }, '{"n":9007199254740991,"text":"a\\nb \u2028 😀"}'],
];

const position = (event) => Number(event.id.match(/^[0-9a-z]+-(\d+)$/)[1]);

function assertIdsRise(events) {
  events.reduce((before, event) => {
    assert.ok(position(event) > before, `${event.id} after ${before}`);
    return position(event);
  }, 0);
}

export const frames = [
  {
    name: "types, and data of every kind",
    async run(stage) {
      const reader = stage.open("/sse/Frames/texts", { types: texts.map(([type]) => type).filter(Boolean) });
      await reader.connected();
      assert.equal(reader.openings[0].channel, "Frames:texts");
      await stage.broadcast("Frames:texts", texts);
      await reader.has(texts.length);
      const as = stage.adapter.dataArrivesAs ?? ((data) => data);
      assert.deepEqual(
        reader.events.map(({ type, data }) => [type, data]),
        texts.map(([type, data]) => [type || "message", as(lines(data))]));
      assertIdsRise(reader.events);
      assert.equal(new Set(reader.events.map(({ id }) => id.split("-")[0])).size, 1);
      assert.ok(reader.states.includes("open"));
    },
  },
  {
    name: "JSON is compact",
    async run(stage) {
      const reader = stage.open("/sse?channel=Frames%3Ajson", { types: ["Json"] });
      await reader.connected();
      await stage.broadcast("Frames:json", values.map(([value]) => ["Json", value]));
      await reader.has(values.length);
      assert.deepEqual(reader.data, values.map(([, text]) => text));
    },
  },
  {
    name: "several channels and a pattern on one connection, in order",
    async run(stage) {
      const reader = stage.open("/sse?channel=Room:größe 1&channel=Many:*&channel=Other:x".replace("größe 1", encodeURIComponent("größe 1")), { types: ["T"] });
      await reader.connected();
      assert.deepEqual(reader.openings[0].channels, ["Room:größe 1", "Many:*", "Other:x"]);
      const sent = ["Room:größe 1", "Many:a", "Many:b:c", "Other:x", "Room:größe 1", "Many:", "Other:x"];
      // One at a time: there is an order between channels only where there is one between commits.
      for (const [index, channel] of sent.entries()) {
        await stage.broadcast(channel, [["T", index]]);
        await stage.broadcast("Other:y", [["T", "not asked for"]]);
        await reader.has(index + 1);
      }
      assert.deepEqual(reader.data, sent.map((_, index) => String(index)));
      assertIdsRise(reader.events);
    },
  },
  {
    name: "a mebibyte of data, in one line and in many",
    async run(stage) {
      const reader = stage.open("/sse/Frames/long", { types: ["Long"] });
      await reader.connected();
      await stage.sql("SELECT spillway.broadcast('Frames:long', 'Long', to_jsonb(repeat('0123456789abcde😀', 61681)))");
      await stage.sql("SELECT spillway.broadcast('Frames:long', 'Long', to_jsonb(repeat(repeat('x', 255) || E'\\n', 4096)))");
      await stage.broadcast("Frames:long", [["Long", "after it"]]);
      await reader.has(3);
      assert.ok(reader.data[0] === "0123456789abcde😀".repeat(61681), "the one line is as it was");
      assert.ok(reader.data[1] === `${"x".repeat(255)}\n`.repeat(4096), "the many lines are as they were");
      assert.equal(reader.data[2], "after it");
    },
  },
  {
    name: "10,000 events in a burst",
    async run(stage) {
      const reader = stage.open("/sse/Frames/burst", { types: ["Burst"] });
      await reader.connected();
      await stage.sql("SELECT count(spillway.broadcast('Frames:burst', 'Burst', to_jsonb(n))) FROM generate_series(1, 10000) n");
      await reader.has(10_000);
      assert.deepEqual(reader.data, Array.from({ length: 10_000 }, (_, index) => String(index + 1)));
      assertIdsRise(reader.events);
    },
  },
  {
    name: "an ephemeral event has the id of the durable one before it",
    async run(stage) {
      const reader = stage.open("/sse/Frames/ephemeral", { types: ["Typing", "Said"] });
      await reader.connected();
      await stage.broadcast("Frames:ephemeral", [["Said", "one"]]);
      await reader.has(1);
      await stage.sql("SELECT spillway.broadcast('Frames:ephemeral', 'Typing', '\"…\"', ephemeral => true)");
      await reader.has(2);
      assert.deepEqual(reader.events.map(({ type, data }) => [type, data]), [["Said", "one"], ["Typing", "…"]]);
      assert.ok(position(reader.events[1]) >= position(reader.events[0]));
    },
  },
  {
    name: "heartbeats fire nothing",
    async run(stage) {
      const reader = stage.open("/sse/Frames/quiet", { types: ["T"], without: ["filter"] });
      await reader.connected();
      // The proxy sees what the client must not see.
      await eventually("two heartbeats", () => /:\n+:\n+$/.test(reader.route.requests[0].tail) || undefined);
      await stage.broadcast("Frames:quiet", [["T", "after them"]]);
      await reader.has(1);
      assert.deepEqual(reader.data, ["after them"]);
      assert.equal(reader.openings.length, 1);
      assert.deepEqual(reader.errors, []);
    },
  },
  {
    name: "HEAD answers with the headers of a stream, and ends",
    only: ["curl"],
    async run(stage) {
      const head = await stage.curlHead("/sse/Frames/head");
      assert.match(head, /^HTTP\/1\.1 200 OK\r\n/);
      assert.match(head, /^content-type: text\/event-stream\r$/im);
      assert.match(head, /^cache-control: no-store, no-transform\r$/im);
      assert.match(head, /^x-accel-buffering: no\r$/im);
    },
  },
];
