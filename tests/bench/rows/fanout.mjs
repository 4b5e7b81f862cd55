// One channel, many clients, frames of 200 bytes: published one by one, and in bursts of 20.
import { fanout, fanoutCalls } from "../lib/fanout.mjs";
import { Nchan } from "../lib/nchan.mjs";

function row(size) {
  const shown = size.toLocaleString("en");
  return {
    name: `fanout-${size}`,
    what: `${shown} clients on one channel, frames of 200 B`,
    unit: "deliveries/s",
    per: "frame",
    async run(bench) {
      const clients = bench.most(size);
      const common = { clients, frames: Math.max(20, bench.size(500_000) / clients) };
      const nchan = await Nchan.start(bench.folder);
      const servers = {
        spillway: { server: "hub" },
        "raw loop": { server: "raw" },
        Nchan: { server: "nchan", port: nchan.port, "server-pid": nchan.worker },
      };
      const work = Object.fromEntries(["single", "bursts"].flatMap((how) => Object.entries(servers).map(([name, options]) =>
        [`${name}, ${how}`, { ...options, ...common, burst: how === "single" ? 1 : 20 }])));
      try {
        const contenders = await bench.inTurns(Object.fromEntries(Object.entries(work).map(([name, options]) => [name, () => fanout(options)])));
        for (const [name, options] of Object.entries(work).filter(([name]) => !bench.smoke || name.endsWith("single")))
          Object.assign(contenders[name], bench.once(await fanoutCalls(bench, { ...options, frames: Math.max(20, Math.round(bench.size(40_000) / clients)) })));
        const [single, bursts] = [`${shown} clients on one channel, frames of 200 B, one by one`, "the same, bursts of 20"];
        return {
          contenders,
          comparisons: [
            { of: "spillway, single", to: "raw loop, single", what: single, target: 0.9 },
            { of: "spillway, single", to: "Nchan, single", what: single },
            { of: "spillway, bursts", to: "Nchan, bursts", what: bursts, target: 3 },
            { of: "spillway, bursts", to: "raw loop, bursts", what: bursts },
          ],
        };
      } finally {
        await nchan.stop();
      }
    },
  };
}

export const fanoutRows = [row(1000), row(5000)];
