// A curve as an SVG of its own, two panels above each other: the rate, and what each event or frame costs.
// Dots are medians, bars go from the least to the most. Axes are logarithmic where the points call for it;
// else y begins at zero.
import { summary } from "./stats.mjs";

const WIDTH = 600;
const LEFT = 74;
const RIGHT = 24;
const PANEL = 190;
const TOP = 56;
const GAP = 62;
const COLOURS = ["#1f5fbf", "#c2410c", "#15803d"];

export const short = (value) => value >= 1e6 ? `${+(value / 1e6).toFixed(1)}M` : value >= 1000 ? `${+(value / 1000).toFixed(1)}k` : String(+value.toPrecision(2));
const escape = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
const at = (value) => value.toFixed(1);

// Round numbers from zero to a little above `most`, five or so.
export function ticks(most) {
  const wanted = (most > 0 ? most : 1) / 4;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const step = [1, 2, 5, 10].map((n) => n * power).find((size) => size >= wanted * 0.999);
  const values = [0];
  while (values.at(-1) < most) values.push(values.length * step);
  return values;
}

// From a value to a place between `from` and `to`; logarithmic beyond a factor of 8.
export function scale(values, from, to) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const logarithmic = least > 0 && most / least > 8;
  const by = logarithmic ? Math.log : (value) => value;
  const place = (value) => most === least ? (from + to) / 2 : from + (by(value) - by(least)) / (by(most) - by(least)) * (to - from);
  return { place, logarithmic };
}

const SPREAD = 40;  // of difference within one series, from which on a linear axis hides its small end

// {lines, place}: where the axis has its lines, and from a value to a place between `bottom` and `top`.
export function vertical(series, bottom, top) {
  const most = Math.max(...series.flatMap((one) => one.points.map((point) => point.most)));
  const medians = series.map((one) => one.points.map((point) => point.median).filter((value) => value > 0));
  if (!medians.some((values) => Math.max(...values) / Math.min(...values) > SPREAD)) {
    const lines = ticks(most);
    return { lines, logarithmic: false, place: (value) => bottom + value / lines.at(-1) * (top - bottom) };
  }
  const first = Math.floor(Math.log10(Math.min(...medians.flat())));
  const last = Math.ceil(Math.log10(most));
  const lines = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  // What is less than the lowest line, nothing at all included, stands on it.
  return { lines, logarithmic: true, place: (value) => bottom + (Math.log10(Math.max(value, lines[0])) - first) / (last - first) * (top - bottom) };
}

function panel(top, title, series, x) {
  const { lines, logarithmic, place: y } = vertical(series, top + PANEL, top);
  const parts = [`<text x="${LEFT}" y="${top - 12}" font-size="13" font-weight="600">${escape(title)}${logarithmic ? " (logarithmic)" : ""}</text>`];
  for (const line of lines)
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at(y(line))}" y2="${at(y(line))}" stroke="${line === lines[0] ? "#666" : "#ddd"}"/>` +
      `<text x="${LEFT - 8}" y="${at(y(line) + 4)}" text-anchor="end">${short(line)}</text>`);
  // The legend stands right of the title, from the right edge on.
  let right = WIDTH - RIGHT;
  for (let i = series.length - 1; i >= 0 && series.length > 1; --i) {
    const width = 26 + series[i].name.length * 6.2;
    right -= width;
    parts.push(`<rect x="${at(right)}" y="${top - 22}" width="10" height="10" fill="${COLOURS[i]}"/><text x="${at(right + 14)}" y="${top - 13}">${escape(series[i].name)}</text>`);
  }
  series.forEach(({ points }, i) => {
    const path = points.map((point, k) => `${k === 0 ? "M" : "L"}${at(x(point.x))} ${at(y(point.median))}`).join(" ");
    parts.push(`<path d="${path}" fill="none" stroke="${COLOURS[i]}" stroke-width="2"/>`);
    for (const point of points) {
      const [px, low, high] = [at(x(point.x)), at(y(point.least)), at(y(point.most))];
      parts.push(`<path d="M${px} ${low}V${high}M${at(x(point.x) - 4)} ${low}h8M${at(x(point.x) - 4)} ${high}h8" stroke="${COLOURS[i]}" fill="none"/>` +
        `<circle cx="${px}" cy="${at(y(point.median))}" r="3.5" fill="${COLOURS[i]}"/>`);
    }
  });
  return parts.join("\n");
}

const sum = (point, keys) => ({ x: point.x, ...summary(point.value.values.map((_, round) => keys.reduce((total, key) => total + point[key].values[round], 0))) });

// `row`: {what, axis, unit, per, points: [{x, value, userUs, systemUs, …}]}, each figure a summary.
export function plot(row) {
  const { points } = row;
  const xs = points.map((point) => point.x);
  const { place, logarithmic } = scale(xs, LEFT + 14, WIDTH - RIGHT - 14);
  const costs = [["user", ["userUs"]], ["system", ["systemUs"]], ["PostgreSQL", ["serverUserUs", "serverSystemUs"]]]
    .filter(([, keys]) => keys.every((key) => points.every((point) => point[key])))
    .map(([name, keys]) => ({ name, points: points.map((point) => sum(point, keys)) }));
  const second = TOP + PANEL + GAP;
  const height = (costs.length > 0 ? second + PANEL : TOP + PANEL) + 52;
  const labels = (top) => xs.map((x) => `<text x="${at(place(x))}" y="${top + PANEL + 18}" text-anchor="middle">${short(x)}</text>`).join("");
  const axis = `${row.axis}${logarithmic ? " (logarithmic)" : ""}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="11.5" fill="#222" role="img" aria-label="${escape(row.what)}">
<rect width="100%" height="100%" fill="#fff"/>
<text x="${LEFT}" y="22" font-size="14" font-weight="600">${escape(row.what)}</text>
${panel(TOP, row.unit, [{ name: "", points: points.map((point) => ({ x: point.x, ...point.value })) }], place)}
${labels(TOP)}
${costs.length > 0 ? `${panel(second, `CPU, µs per ${row.per}`, costs, place)}\n${labels(second)}` : ""}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${height - 12}" text-anchor="middle">${escape(axis)}</text>
</svg>
`;
}
