// A connection that is cut behind any byte: each event arrives once, and in order.
import assert from "node:assert/strict";

const broadcasts = [
  ["Named", { text: "one" }],
  ["Lines", "two\n\nand more\r\nof it"],
  ["Unicode", "drei 😀𝄞 ü"],
  ["", "four, without a type"],
  ["Named", "the end"],
];
const expected = broadcasts.map(([type, data]) =>
  [type || "message", typeof data === "string" ? data.replaceAll("\r\n", "\n") : JSON.stringify(data)]);

// Runs `work` on each item, on at most `many` at a time.
async function eachOf(items, many, work) {
  const rest = items.values();
  await Promise.all(Array.from({ length: many }, async () => {
    for (const item of rest) await work(item);
  }));
}

// The cuts' channel, with the id in front of the events and the bytes that follow on it.
let prepared;
export function prepare(stage) {
  prepared ??= (async () => {
    const before = await stage.head("Cuts:a");
    await stage.broadcast("Cuts:a", broadcasts);
    const target = "/sse?channel=Cuts:a";
    const bytes = await stage.bytesUntil(`${target}&last_event_id=${before}`, "the end\n");
    const opening = bytes.indexOf("\n\n") + 2;
    const last = bytes.lastIndexOf("event: Named\n");  // the last frame is never cut: it shows what came twice
    return { target, before, bytes, retry: bytes.indexOf("\n") + 1, opening, last };
  })();
  return prepared;
}

async function cutAt(stage, after, how, options = {}) {
  const { target, before } = await prepare(stage);
  const reader = stage.open(target, {
    types: ["Named", "Lines", "Unicode"],
    lastEventId: before,
    plan: (number) => (number === 0 ? { after, how } : undefined),
    ...options,
  });
  try {
    await reader.hasData("the end");
    return { reader, events: reader.events.map(({ type, data }) => [type, data]) };
  } finally {
    await stage.close(reader);
  }
}

const cut = (how) => ({
  name: `a cut behind any byte of a frame loses and doubles nothing (${how.toUpperCase()})`,
  async run(stage) {
    const { retry, last } = await prepare(stage);
    const offsets = Array.from({ length: last - retry + 1 }, (_, index) => retry + index);
    await eachOf(offsets, stage.adapter.parallel ?? 100, async (after) => {
      const { reader, events } = await cutAt(stage, after, how).catch((error) => {
        throw new Error(`cut behind byte ${after}: ${error.message}`);
      });
      assert.deepEqual(events, expected, `cut behind byte ${after}`);
      assert.equal(reader.route.requests[0].body, after);
      assert.ok(reader.route.requests.length >= 2, `cut behind byte ${after}: it did not have to come back`);
    });
  },
});

export const cuts = [cut("fin"), cut("rst")];

// Not beside other cases: while this process is busy, whatever is soon becomes late.
export const retries = [
  {
    name: "`retry:` says when it comes back",
    async run(stage) {
      const reader = stage.open("/sse/Cuts/retry", { plan: (number) => (number < 3 ? { after: "opening", how: "fin" } : undefined) });
      await reader.connected(4);
      const soonest = Math.min(...reader.route.waits);
      const shortest = stage.adapter.shortestRetry;
      // 20 ms; no client comes back within a second by itself.
      if (shortest) assert.ok(soonest >= shortest * 0.9, `came back after ${soonest} ms`);
      else assert.ok(soonest >= 15 && soonest < 900, `came back after ${soonest} ms`);
    },
  },
];

export { cutAt, expected };
