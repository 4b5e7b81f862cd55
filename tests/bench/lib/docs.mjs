// The generated part of docs/performance.md, and what lies beside it: figures.json and the curves.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { merge } from "./figures.mjs";
import { plot } from "./plot.mjs";
import { circumstances, costs, number, ratios, table } from "./report.mjs";

const END = "<!-- bench:end -->";

// What stands between <!-- bench:PART --> and the next <!-- bench:end --> is replaced.
export function between(page, part, made) {
  const marker = `<!-- bench:${part} -->`;
  const begin = page.indexOf(marker);
  const end = page.indexOf(END, begin);
  if (begin < 0 || end < 0) throw new Error(`the page has no ${marker} … ${END}`);
  return `${page.slice(0, begin + marker.length)}\n\n${made}\n\n${page.slice(end)}`;
}

// Rows that were measured together are named by what they were measured on.
function measured(rows) {
  const groups = new Map();
  for (const [name, row] of Object.entries(rows)) {
    const key = circumstances(row.measured);
    groups.set(key, [...(groups.get(key) ?? []), name]);
  }
  if (groups.size === 1) return `Measured ${[...groups.keys()][0]}.`;
  return [...groups].map(([key, names]) => `- ${names.join(", ")}: measured ${key}.`).join("\n");
}

export function generated(rows) {
  const curves = Object.entries(rows).filter(([, row]) => row.points);
  return [
    measured(rows),
    "### Ratios", "Median (least–most) of the rounds; a ratio is the median of the rounds' ratios.", ratios(rows),
    "### What each costs", "Medians. The first two columns of µs are the process's own CPU, PostgreSQL's is all its processes together.", costs(rows),
    ...(curves.length > 0 ? ["### Curves"] : []),
    ...curves.map(([name, row]) => `![${row.what}](performance/${name}.svg)`),
  ].filter((part) => part !== "").join("\n\n");
}

// The ratios that have a target: those of the releases that were kept, and those of now.
export function releases(kept, rows) {
  const now = Object.fromEntries(targets(rows));
  const columns = [...Object.entries(kept ?? {}), ["Unreleased", now]];
  const names = [...new Set(columns.flatMap(([, ratios]) => Object.keys(ratios)))];
  return table(["ratio", ...columns.map(([release]) => release)],
    names.map((name) => [name, ...columns.map(([, ratios]) => ratios[name] === undefined ? "" : number(ratios[name]))]), columns.map((_, i) => i + 1));
}

export function targets(rows) {
  return Object.entries(rows).flatMap(([name, row]) => (row.comparisons ?? []).filter(({ target }) => target !== undefined)
    .map(({ of, metric, to, ratio, target, atMost }) =>
      [`${name}: ${of}${metric === "value" ? "" : ` ${metric}`} / ${to} (${atMost ? "≤" : "≥"} ${target})`, ratio.median]));
}

// `report` undefined: what was kept is written anew. `release`: the present ratios are kept under this name.
export async function writeDocs(folder, report, order, release) {
  const place = path.join(folder, "performance");
  await mkdir(place, { recursive: true });
  const file = path.join(place, "figures.json");
  const kept = await readFile(file, "utf8").then(JSON.parse, (error) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (!kept && !report) throw new Error(`${file} is missing; measure with --docs first`);
  const figures = report ? merge(kept, report, order) : kept;
  if (release) figures.releases = { ...figures.releases, [release]: Object.fromEntries(targets(figures.rows)) };
  const page = path.join(folder, "performance.md");
  const made = between(await readFile(page, "utf8"), "table", generated(figures.rows));
  await writeFile(page, between(made, "releases", releases(figures.releases, figures.rows)));
  for (const [name, row] of Object.entries(figures.rows)) if (row.points) await writeFile(path.join(place, `${name}.svg`), plot(row));
  await writeFile(file, `${JSON.stringify(figures, null, 1)}\n`);
}
