import assert from "node:assert/strict";
import test from "node:test";

import { plot, scale, short, ticks, vertical } from "../lib/plot.mjs";
import { summary } from "../lib/stats.mjs";

test("ticks are round, begin at zero and reach the most", () => {
  assert.deepEqual(ticks(100), [0, 50, 100]);
  assert.deepEqual(ticks(97_000), [0, 50_000, 100_000]);
  assert.deepEqual(ticks(4), [0, 1, 2, 3, 4]);
  for (const most of [0.03, 1.7, 9, 12, 480, 72_000, 1.3e6]) {
    const values = ticks(most);
    assert.ok(values.at(-1) >= most && values.at(-2) < most, `${most}: ${values}`);
    assert.ok(values.length >= 3 && values.length <= 6, `${most}: ${values}`);
  }
});

test("a scale is logarithmic where the points call for it", () => {
  const wide = scale([1, 10, 100], 0, 200);
  assert.ok(wide.logarithmic);
  assert.deepEqual([1, 10, 100].map((x) => Math.round(wide.place(x))), [0, 100, 200]);
  const narrow = scale([1, 2, 3, 4], 0, 300);
  assert.ok(!narrow.logarithmic);
  assert.deepEqual([1, 2, 4].map(narrow.place), [0, 100, 300]);
  assert.equal(scale([5], 0, 10).place(5), 5);
});

test("the upright axis is logarithmic when one series differs much, not when two do", () => {
  const series = (...medians) => ({ points: medians.map((median) => ({ median, most: median * 1.1 })) });
  const apart = vertical([series(1, 1.2), series(900, 800)], 100, 0);
  assert.ok(!apart.logarithmic);
  assert.deepEqual([apart.lines[0], apart.place(0)], [0, 100]);
  const steep = vertical([series(0, 20, 900)], 100, 0);
  assert.ok(steep.logarithmic);
  assert.deepEqual(steep.lines, [10, 100, 1000]);
  assert.deepEqual([0, 10, 100, 1000].map((value) => Math.round(steep.place(value))), [100, 100, 50, 0]);
});

test("numbers on an axis are short", () => {
  assert.deepEqual([0, 0.25, 12, 1500, 100_000, 2_500_000].map(short), ["0", "0.25", "12", "1.5k", "100k", "2.5M"]);
});

const row = (more) => ({ what: "a < b", axis: "runners", unit: "events/s", per: "event",
  points: [1, 4].map((x) => ({ x, value: summary([10 * x, 11 * x]), ...more })) });

test("a curve has a white ground, both panels, and names that are escaped", () => {
  const svg = plot(row({ userUs: summary([1, 2]), systemUs: summary([3, 3]), serverUserUs: summary([1, 1]), serverSystemUs: summary([1, 1]) }));
  for (const part of ['fill="#fff"', "events/s", "µs per event", ">PostgreSQL<", "a &lt; b", ">runners<"]) assert.ok(svg.includes(part), part);
  assert.equal(svg.match(/<circle/g).length, 2 + 3 * 2);
  assert.ok(!svg.includes("NaN"));
});

test("without costs there is one panel", () => assert.ok(!plot(row({})).includes("µs per event")));
