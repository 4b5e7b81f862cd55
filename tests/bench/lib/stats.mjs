export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The median with the smallest and the largest, and all of them in the order of the rounds.
export function summary(values) {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values), values };
}

// Each round of one against the same round of the other: what drifts on the machine from one round to
// the next is in both.
export function ratio(one, other) {
  return summary(one.values.map((value, round) => value / other.values[Math.min(round, other.values.length - 1)]));
}

// Runs every contender once a round, beginning with another one each time. Each answers an object of
// numbers; what else is in it is for those who watch.
export async function inTurns(rounds, contenders, say) {
  const names = Object.keys(contenders);
  const taken = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; ++round) {
    for (let i = 0; i < names.length; ++i) {
      const name = names[(i + round) % names.length];
      const result = await contenders[name]();
      taken[name].push(result);
      const shown = Object.entries(result).map(([key, value]) => `${key} ${typeof value === "number" ? Number(value.toPrecision(4)) : JSON.stringify(value)}`);
      say(`  round ${round + 1}, ${name}: ${shown.join(", ")}`);
    }
  }
  const result = {};
  for (const name of names) {
    result[name] = {};
    for (const [key, first] of Object.entries(taken[name][0]))
      if (typeof first === "number") result[name][key] = summary(taken[name].map((one) => one[key]));
  }
  return result;
}
