// Tokens: by every way a client has; refused ones; and one that expires while the stream is open.
import assert from "node:assert/strict";

import { expectRefusal } from "./refusals.mjs";

export const tokenOptions = (stage) => [
  "--auth-key", stage.keyFile,
  "--public", "Open:*",
  "--cors", stage.otherOrigin,
  "--sse-retry", "20ms", "--heartbeat", "1s",
];

const withToken = (target, token) => `${target}${target.includes("?") ? "&" : "?"}access_token=${token}`;

async function expectStream(stage, channel, target, options = {}) {
  const reader = stage.open(target, { types: ["T"], ...options });
  await reader.connected();
  await stage.broadcast(channel, [["T", "for those who may"]]);
  await reader.has(1);
  assert.deepEqual(reader.data, ["for those who may"]);
  // It goes on with the same token.
  reader.route.drop();
  await reader.connected(2);
}

const channelOf = (name) => [`Token:${name}`, `/sse/Token/${name}`];
const takesHeaders = ({ adapter }) => adapter.takesHeaders;

export const tokens = [
  {
    name: "a token in the query",
    async run(stage) {
      const [channel, target] = channelOf("query");
      await expectStream(stage, channel, withToken(target, await stage.token("--subscribe", "Token:*")));
    },
  },
  {
    name: "a token as Authorization: Bearer",
    when: takesHeaders,
    async run(stage) {
      const [channel, target] = channelOf("header");
      const token = await stage.token("--subscribe", channel);
      await expectStream(stage, channel, target, { headers: { Authorization: `Bearer ${token}` } });
    },
  },
  {
    name: "a token in the cookie",
    when: ({ adapter }) => adapter.takesHeaders || adapter.takesCookie,
    async run(stage) {
      const [channel, target] = channelOf("cookie");
      const token = await stage.token("--subscribe", channel);
      await expectStream(stage, channel, target, stage.adapter.takesCookie
        ? { cookie: { name: "spillway_token", value: token } }
        : { headers: { Cookie: `spillway_token=${token}` } });
    },
  },
  {
    name: "a public channel needs no token",
    run: (stage) => expectStream(stage, "Open:a", "/sse?channel=Open:a"),
  },
  {
    name: "401 without a token: an error, and no second request",
    run: (stage) => expectRefusal(stage, 401, "/sse/Token/none"),
  },
  {
    name: "401 with a token that somebody else has signed: an error, and no second request",
    run: async (stage) => expectRefusal(stage, 401, withToken("/sse/Token/forged", await stage.forgedToken("--subscribe", "Token:*"))),
  },
  {
    name: "403 for another channel than the token's: an error, and no second request",
    run: async (stage) => expectRefusal(stage, 403, withToken("/sse?channel=Token:a&channel=Token:b", await stage.token("--subscribe", "Token:a"))),
  },
  {
    name: "the stream ends when its token expires, and 401 is the end; a new token goes on without a gap",
    async run(stage) {
      const [channel, target] = channelOf("expiry");
      let reader;
      // On a busy machine it may be over before it was used.
      for (const seconds of [3, 10, 30]) {
        reader = stage.open(withToken(target, await stage.token("--subscribe", channel, "--expires", `${seconds}s`)), { types: ["T"] });
        await reader.until("connected frame, or the end", () => reader.openings.length > 0 || reader.closed);
        await stage.broadcast(channel, [["T", "before"]]);
        await reader.until("an event, or the end", () => reader.events.length > 0 || reader.closed);
        if (reader.events.length > 0) break;
      }
      await reader.until("the end", () => reader.closed);
      const [first, ...later] = reader.route.requests.filter(({ line }) => line.startsWith("GET "));
      assert.match(first.head, /^HTTP\/1\.1 200 /);
      assert.equal(later.length, 1);
      assert.match(later[0].head, /^HTTP\/1\.1 401 /);
      assert.ok(!reader.events.some(({ type }) => type === "reset"));

      await stage.broadcast(channel, [["T", "in between"]]);
      const again = stage.open(withToken(target, await stage.token("--subscribe", channel)), { types: ["T"], lastEventId: reader.events[0].id });
      await again.has(1);
      assert.deepEqual([...reader.data, ...again.data], ["before", "in between"]);
      return () => assert.equal(reader.route.requests.filter(({ line }) => line.startsWith("GET ")).length, 2);
    },
  },
  {
    name: "a page of an origin that --cors names reads the stream",
    only: ["chromium"],
    async run(stage) {
      const [channel, target] = channelOf("cors");
      await expectStream(stage, channel, withToken(target, await stage.token("--subscribe", channel)), { from: stage.otherOrigin });
    },
  },
  {
    name: "a page of another origin does not",
    only: ["chromium"],
    async run(stage) {
      const [channel, target] = channelOf("foreign");
      const reader = stage.open(withToken(target, await stage.token("--subscribe", channel)), { from: stage.foreignOrigin });
      await reader.until("it to be over", () => reader.closed);
      assert.deepEqual(reader.openings, []);
    },
  },
];
