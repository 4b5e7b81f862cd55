import assert from "node:assert/strict";
import test from "node:test";

import { compare, merge, problems } from "../lib/figures.mjs";
import { summary } from "../lib/stats.mjs";

const contenders = { ours: { value: summary([10, 12, 11]), p99: summary([30, 30, 30]) }, theirs: { value: summary([20, 20, 20]) } };

test("a target is the least that is wanted, or the most", () => {
  const [least, most, none] = compare(contenders, [
    { of: "ours", to: "theirs", target: 0.6 },
    { of: "ours", to: "theirs", target: 0.6, atMost: true },
    { of: "ours", to: "theirs" },
  ]);
  assert.equal(least.ratio.median, 0.55);
  assert.deepEqual([least.met, most.met, none.met], [false, true, undefined]);
});

test("a comparison may be with a number, or with another figure of the same contender", () => {
  const [limit, own] = compare(contenders, [
    { of: "ours", limit: { name: "a limit", value: 22 } },
    { of: "ours", metric: "p99", to: "ours", toMetric: "value", toWhat: "its own" },
  ]);
  assert.deepEqual([limit.to, limit.ratio.median], ["a limit", 0.5]);
  assert.deepEqual([own.to, own.ratio.most], ["its own", 3]);
});

const report = () => ({
  rows: {
    a: { contenders, comparisons: compare(contenders, [{ of: "ours", to: "theirs" }]) },
    b: { points: [{ x: 1, value: summary([5]) }] },
  },
  skipped: { c: "not here" },
});
const readAgain = (value) => JSON.parse(JSON.stringify(value));

test("a whole report has no problem", () => assert.equal(problems(readAgain(report()), ["a", "b", "c"]), ""));

test("a row that is missing is a problem, and so is one without figures", () => {
  assert.match(problems(readAgain(report()), ["a", "d"]), /^d is missing$/);
  const empty = report();
  empty.rows.b.points = [];
  assert.match(problems(readAgain(empty), ["b"]), /^b is empty$/);
});

test("what is not a number is a problem, also after JSON made it null", () => {
  const broken = report();
  broken.rows.a.comparisons[0].ratio = summary([0 / 0]);
  broken.rows.b.points[0].value = summary([1 / 0]);
  assert.equal(problems(readAgain(broken), ["a", "b"]).split("\n").length, 2);
});

test("a row that was measured again replaces the old one, in the order of all rows", () => {
  const kept = { rows: { a: { value: 1 }, gone: { value: 2 }, c: { value: 3 } } };
  const { rows } = merge(kept, { rows: { b: { value: 4 }, a: { value: 5 } } }, ["a", "b", "c"]);
  assert.deepEqual(Object.entries(rows), [["a", { value: 5 }], ["b", { value: 4 }], ["c", { value: 3 }]]);
  assert.deepEqual(Object.keys(merge(undefined, { rows: { b: {} } }, ["a", "b"]).rows), ["b"]);
});
