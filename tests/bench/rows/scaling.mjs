// How cost grows with what is turned up: a row for each, whose points lib/plot.mjs draws.
import { fanout } from "../lib/fanout.mjs";
import { Process } from "../lib/processes.mjs";
import { Spillway, commentsLibrary, drain, makeTemplate, need, queueEvents, settle } from "../lib/spillway.mjs";

const EVENTS = 100_000;

// Processes that only serve streams, with a client each that gets everything: what they read of the
// database is in its CPU, what they spend themselves is not.
async function besideServers(bench, servers) {
  const { postgres } = bench;
  const events = bench.size(EVENTS);
  await postgres.create("scaling", bench.template);
  await queueEvents(postgres, "scaling", events);
  await settle(postgres, "scaling");
  const others = [];
  try {
    for (let i = 0; i < servers; ++i) {
      const server = await Spillway.serving(bench, "scaling", ["--roles", "sse"]);
      others.push(server);
      const client = new Process(need("BENCH_STREAMS"), ["receive", "--port", server.port, "--target", "/sse?channel=CommentStream:*", "--clients", 1].map(String),
        { name: "bench_streams", input: "pipe" });
      others.push(client);
      await client.line(/ready/);
    }
    return await drain(postgres, "scaling", events, ["--handlers", commentsLibrary()]);
  } finally {
    for (const one of others.reverse()) await one.end();
    await postgres.drop("scaling");
  }
}

async function drained(bench, { template = bench.template, count = EVENTS, args = [], bytes }) {
  const { postgres } = bench;
  const events = bench.size(count);
  await postgres.create("scaling", template);
  await queueEvents(postgres, "scaling", events, { bytes });
  await settle(postgres, "scaling");
  const result = await drain(postgres, "scaling", events, ["--handlers", commentsLibrary(), ...args]);
  await postgres.drop("scaling");
  return result;
}

async function withLanes(bench, lanes) {
  const name = `lanes_${lanes}`;
  if (!bench.made.has(name)) await makeTemplate(bench.postgres, name, ["--lanes", String(lanes)]);
  bench.made.add(name);
  return drained(bench, { template: name });
}

// `deliveries` in all, each frame to every client.
function fannedOut(bench, { clients, channels = 1, bytes = 200, deliveries }) {
  const count = bench.most(clients);
  return fanout({ clients: count, channels: Math.min(channels, count), bytes, frames: Math.max(5, Math.round(bench.size(deliveries) / count)) });
}

const drains = { unit: "events/s", per: "event" };
const streams = { unit: "deliveries/s", per: "frame" };

const CURVES = {
  lanes: { ...drains, what: "drain by lanes", axis: "lanes", points: [1, 2, 4, 8, 16], once: withLanes },
  runners: { ...drains, what: "drain by runners", axis: "runners", points: [1, 2, 3, 4], once: (bench, n) => drained(bench, { args: ["--runners", n] }) },
  servers: { ...drains, what: "drain beside processes that serve streams", axis: "stream servers", points: [0, 1, 2, 4], once: besideServers },
  // Small batches are slow, so they get fewer events.
  batch: { ...drains, what: "drain by events in a batch", axis: "events in a batch, at most", points: [1, 10, 100, 500, 1000, 2000, 5000],
    once: (bench, n) => drained(bench, { count: Math.min(EVENTS, 3000 * n), args: ["--batch", n] }) },
  payload: { ...drains, what: "drain by size of the events", axis: "bytes of text in an event", points: [100, 1000, 10_000, 100_000],
    once: (bench, n) => drained(bench, { count: Math.min(EVENTS, 2e8 / n), bytes: n }) },
  clients: { ...streams, what: "fan-out by clients on one channel, frames of 200 B, one by one", axis: "clients", points: [10, 100, 1000, 5000, 10_000],
    once: (bench, n) => fannedOut(bench, { clients: n, deliveries: 500_000 }) },
  channels: { ...streams, what: "fan-out by channels, 10,000 clients spread over them", axis: "channels", points: [1, 10, 100, 1000, 10_000],
    once: (bench, n) => fannedOut(bench, { clients: 10_000, channels: n, deliveries: 500_000 }) },
  frame: { ...streams, what: "fan-out by size of the frames, 100 clients on one channel", axis: "bytes of data in a frame", points: [100, 1000, 10_000, 100_000],
    once: (bench, n) => fannedOut(bench, { clients: 100, bytes: n, deliveries: Math.min(500_000, 4e9 / n) }) },
};

export const scalingRows = Object.entries(CURVES).map(([name, { points, once, ...row }]) => ({
  name: `scaling-${name}`,
  ...row,
  async run(bench) {
    const xs = bench.smoke ? [points[0], points.at(-1)] : points;
    const taken = await bench.inTurns(Object.fromEntries(xs.map((x) => [x, () => once(bench, x)])));
    return { points: xs.map((x) => ({ x, ...taken[x] })) };
  },
}));
