// What is queued is worked off: no subscriber, one INSERT and one broadcast for each event.
import { sqlCeiling } from "../lib/ceiling.mjs";
import { graphileDrain, pgBossDrain } from "../lib/peers.mjs";
import { commentsJq, commentsLibrary, drain, drainCalls, queueEvents, settle } from "../lib/spillway.mjs";

const COUNT = 200_000;

async function queued(bench) {
  const name = "queued";
  if (bench.made.has(name)) return name;
  await bench.postgres.create(name, bench.template);
  await queueEvents(bench.postgres, name, bench.size(COUNT));
  bench.made.add(name);
  return name;
}

const drained = (bench, handlers) => async () => {
  await bench.postgres.create("bench", await queued(bench));
  await settle(bench.postgres, "bench");
  const result = await drain(bench.postgres, "bench", bench.size(COUNT), ["--handlers", handlers]);
  await bench.postgres.drop("bench");
  return result;
};

// In a pass of its own: tracing makes all slower.
async function addCalls(bench, contender, handlers) {
  await bench.postgres.create("bench", bench.template);
  Object.assign(contender, bench.once(await drainCalls(bench, "bench", bench.size(50_000), ["--handlers", handlers])));
  await bench.postgres.drop("bench");
}

export const drainRow = {
  name: "drain",
  what: "200,000 queued events, C++ handler, no subscriber",
  unit: "events/s",
  per: "event",
  async run(bench) {
    const contenders = await bench.inTurns({
      spillway: drained(bench, commentsLibrary()),
      "SQL ceiling": () => sqlCeiling(bench, bench.size(COUNT)),
      "graphile-worker, INSERT": () => graphileDrain(bench, "insert", bench.size(50_000)),
      "graphile-worker, no-op": () => graphileDrain(bench, "nothing", bench.size(COUNT)),
      "pg-boss, INSERT": () => pgBossDrain(bench, bench.size(20_000)),
    });
    await addCalls(bench, contenders.spillway, commentsLibrary());
    return {
      contenders,
      comparisons: [
        { of: "spillway", to: "graphile-worker, INSERT", target: 10 },
        { of: "spillway", to: "SQL ceiling", target: 0.7 },
        { of: "spillway", to: "graphile-worker, no-op" },
        { of: "spillway", to: "pg-boss, INSERT" },
      ],
    };
  },
};

export const drainJqRow = {
  name: "drain-jq",
  what: "the same, jq handler",
  unit: "events/s",
  per: "event",
  async run(bench) {
    const contenders = await bench.inTurns({
      "spillway, jq": drained(bench, commentsJq()),
      "spillway, C++": drained(bench, commentsLibrary()),
    });
    return { contenders, comparisons: [{ of: "spillway, jq", to: "spillway, C++", target: 0.5 }] };
  },
};
