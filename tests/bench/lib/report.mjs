// Figures as tables for people: Markdown whose columns stand in line, so that a terminal shows it too.

export function number(exact) {
  const value = Number(exact.toPrecision(6));
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 0.1 || size === 0 ? value.toFixed(2) : String(Number(value.toPrecision(2)));
}

const spread = (one) => one.values.length === 1 ? number(one.median) : `${number(one.median)} (${number(one.least)}–${number(one.most)})`;
const each = (one) => one ? number(one.median) : "";

export function table(head, rows, right = []) {
  const widths = head.map((title, i) => Math.max(3, title.length, ...rows.map((row) => row[i].length)));
  const line = (cells) => `| ${cells.map((cell, i) => right.includes(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i])).join(" | ")} |`;
  return [line(head), line(widths.map((width, i) => right.includes(i) ? `${"-".repeat(width - 1)}:` : "-".repeat(width))), ...rows.map(line)].join("\n");
}

const named = ({ of, what }, row) => `${what ?? row.what}, ${row.unit}`;

export function ratios(rows) {
  const lines = Object.entries(rows).flatMap(([name, row]) => (row.comparisons ?? []).map((comparison) => {
    const { one, to, other, ratio, target, atMost, met } = comparison;
    return [name, named(comparison, row), spread(one), `${to}: ${spread(other)}`, spread(ratio),
      target === undefined ? "" : `${atMost ? "≤" : "≥"} ${target}`, met === undefined ? "" : met ? "yes" : "**no**"];
  }));
  return lines.length === 0 ? "" : table(["row", "what", "spillway", "compared with", "ratio", "target", "met"], lines, [2, 4, 5]);
}

const COSTS = { userUs: "user µs", systemUs: "system µs", serverUserUs: "PostgreSQL user µs", serverSystemUs: "PostgreSQL system µs",
  walBytes: "WAL bytes", systemCalls: "system calls" };

export function costs(rows) {
  const keys = Object.keys(COSTS);
  const lines = Object.entries(rows).flatMap(([name, row]) => Object.entries(row.contenders ?? {})
    .filter(([, figures]) => keys.some((key) => figures[key]))
    .map(([contender, figures]) => [name, contender, row.per, ...keys.map((key) => each(figures[key]))]));
  return lines.length === 0 ? "" : table(["row", "who", "per", ...Object.values(COSTS)], lines, keys.map((_, i) => i + 3));
}

export function curves(rows) {
  const lines = Object.entries(rows).flatMap(([name, row]) => (row.points ?? []).map((point) =>
    [name, `${row.axis}: ${point.x.toLocaleString("en")}`, `${spread(point.value)} ${row.unit}`,
      ...["userUs", "systemUs", "serverUserUs", "serverSystemUs"].map((key) => each(point[key]))]));
  return lines.length === 0 ? "" : table(["curve", "at", "rate", "user µs", "system µs", "PostgreSQL user µs", "PostgreSQL system µs"], lines, [2, 3, 4, 5, 6]);
}

export function circumstances({ date, machine, spillway, postgres, node, peers, rounds }) {
  return `${date}: ${machine.cores} cores (${machine.cpu}), ${machine.memoryGiB} GiB, Linux ${machine.kernel}; ` +
    `${spillway}; PostgreSQL ${postgres}, fsync on; Node ${node}; ${peers}; ${rounds} round${rounds === 1 ? "" : "s"}`;
}

// All tables with a title each, for a terminal.
export function text(report) {
  const parts = [[ratios, "Ratios: median (least–most); a ratio is the median of the rounds' ratios"], [costs, "What each costs"], [curves, "Curves: CPU for each event or frame"]];
  return parts.map(([make, title]) => [title, make(report.rows)]).filter(([, made]) => made).map(([title, made]) => `${title}\n\n${made}\n`).join("\n");
}
