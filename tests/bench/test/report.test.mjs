import assert from "node:assert/strict";
import test from "node:test";

import { between, generated, releases, targets } from "../lib/docs.mjs";
import { compare } from "../lib/figures.mjs";
import { costs, number, ratios, table } from "../lib/report.mjs";
import { summary } from "../lib/stats.mjs";
import { parseCounts } from "../lib/strace.mjs";

const contenders = { ours: { value: summary([10, 12, 11]), userUs: summary([1, 2, 3]) }, theirs: { value: summary([20, 20, 20]) } };
const measured = { date: "2026-01-01", machine: { cores: 2, cpu: "c", memoryGiB: 4, kernel: "6" }, spillway: "spillway 1", postgres: "15", node: "v20", peers: "p 1", rounds: 3 };
const rows = {
  a: { what: "work", unit: "events/s", per: "event", measured, contenders, comparisons: compare(contenders, [{ of: "ours", to: "theirs", target: 0.6 }, { of: "ours", to: "theirs", metric: "userUs", toMetric: "value" }]) },
  "scaling-b": { what: "curve", unit: "events/s", per: "event", axis: "runners", measured, points: [{ x: 1, value: summary([5]) }] },
};

test("numbers are as exact as they are worth", () => {
  assert.deepEqual([95_123.4, 123.4, 12.34, 1.234, 0.0567, 0, 99.99999].map(number), ["95,123", "123", "12.3", "1.23", "0.057", "0.00", "100"]);
});

test("columns stand in line", () => {
  assert.equal(table(["a", "b"], [["xxxx", "1"], ["y", "22222"]], [1]), "| a    |     b |\n| ---- | ----: |\n| xxxx |     1 |\n| y    | 22222 |");
});

test("a comparison is a line with its spread, its target and whether that is met", () => {
  const [, , line] = ratios(rows).split("\n");
  assert.equal(line.replaceAll(/ +/g, " "), "| a | work, events/s | 11.0 (10.0–12.0) | theirs: 20.0 (20.0–20.0) | 0.55 (0.50–0.60) | ≥ 0.6 | **no** |");
});

test("only who has a cost is in the table of costs", () => {
  assert.match(costs(rows), /\| ours \| event \| +2.00 \|/);
  assert.doesNotMatch(costs(rows), /theirs/);
});

test("the page is written anew between its markers and nowhere else", () => {
  const page = "before\n<!-- bench:table -->\nold\n<!-- bench:end -->\nafter\n";
  const once = between(page, "table", generated(rows));
  assert.ok(once.startsWith("before\n<!-- bench:table -->\n\nMeasured 2026-01-01"));
  assert.ok(once.endsWith("\n<!-- bench:end -->\nafter\n"));
  assert.ok(once.includes("![curve](performance/scaling-b.svg)") && !once.includes("old"));
  assert.equal(between(once, "table", generated(rows)), once);
  assert.throws(() => between("no markers", "table", "x"), /bench:table/);
});

test("releases stand beside what is measured now, by the ratios that have a target", () => {
  assert.deepEqual(targets(rows), [["a: ours / theirs (≥ 0.6)", 0.55]]);
  const [head, , line, gone] = releases({ "0.1.0": { "a: ours / theirs (≥ 0.6)": 0.4, "old: one (≥ 1)": 2 } }, rows).split("\n");
  assert.match(head, /\| 0.1.0 \| Unreleased \|$/);
  assert.match(line, /^\| a: ours \/ theirs \(≥ 0.6\) \| +0.40 \| +0.55 \|$/);
  assert.match(gone, /^\| old: one \(≥ 1\) +\| +2.00 \| +\|$/);
});

test("rows of different runs say which they are of", () => {
  const mixed = { ...rows, c: { ...rows.a, measured: { ...measured, date: "2026-02-02" } } };
  assert.match(generated(mixed), /- a, scaling-b: measured 2026-01-01.*\n- c: measured 2026-02-02/);
});

test("what strace counts is added up by name", () => {
  const text = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.100000          10      1000           sendmsg
 10.00    0.010000          10       100        20 futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.110000          10      1100        20 total
`;
  assert.deepEqual(parseCounts(text), { sendmsg: 1000, futex: 100 });
});
