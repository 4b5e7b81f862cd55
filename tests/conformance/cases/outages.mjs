// The worker or its database is gone for a while, on the same port again: nothing is lost, nothing comes twice.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

// Clients of every way to listen, while somebody writes all the time; `disturb` happens in between.
async function through(stage, channel, disturb) {
  const targets = [
    [`/sse/${channel.replace(":", "/")}`, {}],
    [`/sse?channel=Nothing:here&channel=${channel}`, {}],
    [`/sse?channel=${channel.split(":")[0]}:*`, { lastEventId: await stage.head(channel) }],
    // One that was cut off before, so that its id comes from an event.
    [`/sse?channel=${channel}`, { plan: (number) => (number === 0 ? { after: 400, how: "rst" } : undefined) }],
  ];
  const readers = targets.map(([target, options]) => stage.open(target, { types: ["T"], ...options }));
  await Promise.all(readers.map((reader) => reader.connected()));

  let writing = true;
  let number = 0;
  const said = [];
  const writer = (async () => {
    while (writing) {
      const text = `${++number}`;
      // While the database is away nothing can be said.
      await stage.broadcast(channel, [["T", text]]).then(() => said.push(text), () => {});
      await pause(30);  // a psql for each is work enough for the machine
    }
  })();
  try {
    await Promise.all(readers.map((reader) => reader.has(8)));
    await disturb();
    await Promise.all(readers.map((reader) => reader.has(reader.events.length + 8)));
  } finally {
    writing = false;
    await writer;
  }
  await stage.broadcast(channel, [["T", "the end"]]);
  await Promise.all(readers.map((reader) => reader.hasData("the end")));

  const all = await stage.kept(channel);
  // A statement that failed may have been committed all the same.
  assert.deepEqual(all.filter((text) => said.includes(text)), said);
  for (const reader of readers) {
    assert.deepEqual(reader.data, all);
    assert.ok(!reader.events.some(({ type }) => type === "reset"));
    await stage.close(reader);
  }
}

const restart = (signal) => ({
  name: `the worker restarts on ${signal}: nothing is lost, nothing comes twice`,
  run: (stage) => through(stage, `Outage:${signal}`, async () => {
    await stage.worker.end(signal);
    await stage.broadcast(`Outage:${signal}`, [["T", "while it was down"]]);
    await stage.worker.start(stage.options);
  }),
});

export const restarts = [restart("SIGTERM"), restart("SIGKILL")];

export const outages = [
  {
    name: "PostgreSQL restarts: nothing is lost, nothing comes twice",
    run: (stage) => through(stage, "Outage:postgres", () => stage.restartPostgres()),
  },
];
