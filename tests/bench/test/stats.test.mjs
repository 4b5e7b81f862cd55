import assert from "node:assert/strict";
import test from "node:test";

import { inTurns, median, ratio, summary } from "../lib/stats.mjs";

test("the median is the middle one, or between the two in the middle", () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([10, 1, 9, 2]), 5.5);
  assert.equal(median([7]), 7);
});

test("a median leaves what it is asked about as it is", () => {
  const values = [3, 1, 2];
  assert.equal(median(values), 2);
  assert.deepEqual(values, [3, 1, 2]);
});

test("a ratio compares rounds with their own round", () => {
  // The machine was half as fast in the second round, for both.
  const { median, least, most } = ratio(summary([100, 50, 110]), summary([200, 100, 200]));
  assert.deepEqual([median, least, most], [0.5, 0.5, 0.55]);
  assert.equal(ratio(summary([1024, 4096]), summary([2048])).median, 1.25);
});

test("each round begins with another contender", async () => {
  const order = [];
  const contender = (name) => async () => { order.push(name); return { value: order.length, note: "x" }; };
  const taken = await inTurns(3, { a: contender("a"), b: contender("b"), c: contender("c") }, () => {});
  assert.equal(order.join(""), "abcbcacab");
  assert.deepEqual(taken.a.value.values, [1, 6, 8]);
  assert.equal(taken.a.note, undefined);
});
