// What a run found, as an object for machines. Pure; times and sizes as they come from the rows.
import { ratio, summary } from "./stats.mjs";

// The row's comparisons carried out. One of them:
//   {of, to, target, atMost}       two contenders, by `metric` and `toMetric` ("value" unless given);
//                                  `target` is the least that is wanted, or with atMost the most
//   {of, limit: {name, value}, …}  a contender and a number
export function compare(contenders, comparisons) {
  return comparisons.map(({ of, metric = "value", to, toMetric = metric, toWhat, limit, what, target, atMost = false }) => {
    const one = contenders[of][metric];
    const other = limit ? summary([limit.value]) : contenders[to][toMetric];
    const found = ratio(one, other);
    const met = target === undefined ? undefined : atMost ? found.median <= target : found.median >= target;
    return { of, metric, to: limit?.name ?? toWhat ?? to, toMetric, what, one, other, ratio: found, target, atMost, met };
  });
}

// What is not as it must be in a report that has been written and read again: "" or one line for each.
export function problems(report, names) {
  const found = [];
  const finite = (what, value) => { if (!Number.isFinite(value)) found.push(`${what} is ${value}, not a number`); };
  for (const name of names) {
    const row = report.rows[name];
    if (!row) {
      if (!report.skipped?.[name]) found.push(`${name} is missing`);
      continue;
    }
    for (const [contender, { value }] of Object.entries(row.contenders ?? {})) finite(`${name}, ${contender}`, value?.median);
    for (const { of, to, ratio: { median } } of row.comparisons ?? []) finite(`${name}, ${of} to ${to}`, median);
    for (const { x, value } of row.points ?? []) finite(`${name}, ${x}`, value?.median);
    if (!row.points?.length && !Object.keys(row.contenders ?? {}).length) found.push(`${name} is empty`);
  }
  return found.join("\n");
}

// Figures that were kept, with the rows that were measured anew in place of the old ones. `order`: all
// names there are; what is no row any more goes.
export function merge(kept, report, order) {
  const rows = { ...kept?.rows, ...report.rows };
  return { releases: kept?.releases, rows: Object.fromEntries(order.filter((name) => rows[name]).map((name) => [name, rows[name]])) };
}
