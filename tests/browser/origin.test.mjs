// A page of another origin, in Chromium, against a worker on loopback: without being named it can neither
// read nor enqueue, under its own name or under one that was made to lead here.
import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import test from "node:test";

import { launch, notInstalled } from "./chromium.mjs";
import { Worker } from "../support/worker.mjs";

if (notInstalled) {
  console.log(notInstalled);
  process.exit(77);
}

const strange = "rebound.example";  // leads to 127.0.0.1 in this browser

// Everything a page may try, by the outcome of each: "read …", "answered …" or "kept out".
const attempts = async (target) => {
  const outcome = (work) => Promise.race([
    work.catch(() => "kept out"),
    new Promise((resolve) => setTimeout(() => resolve("no answer"), 15_000)),
  ]);
  const fetched = (path, options) =>
    outcome(fetch(target + path, options).then(async (response) =>
      response.type === "opaque" ? "kept out" : `answered ${response.status} ${(await response.text()).slice(0, 40)}`));
  const event = JSON.stringify({ type: "FromAPage" });
  const streamed = (credentials) => outcome(new Promise((resolve, reject) => {
    const source = new EventSource(`${target}/sse/Secret/1`, { withCredentials: credentials });
    source.onmessage = ({ data }) => { source.close(); resolve(`read ${JSON.parse(data).type}`); };
    source.onerror = () => { source.close(); reject(new Error("closed")); };
  }));
  return {
    stream: await streamed(false),
    streamWithCookies: await streamed(true),
    read: await fetched("/api/status"),
    readBlindly: await fetched("/api/status", { mode: "no-cors" }),
    enqueueAsJson: await fetched("/events", { method: "POST", headers: { "Content-Type": "application/json" }, body: event }),
    enqueueAsForm: await fetched("/events", { method: "POST", mode: "no-cors", headers: { "Content-Type": "text/plain" }, body: event }),
  };
};
const allKeptOut = {
  stream: "kept out", streamWithCookies: "kept out", read: "kept out", readBlindly: "kept out",
  enqueueAsJson: "kept out", enqueueAsForm: "kept out",
};

test("a page of another origin", { timeout: 170_000 }, async (t) => {
  const site = http.createServer((_, response) => response.setHeader("Content-Type", "text/html").end("<title>a page</title>"));
  site.listen(0, "127.0.0.1");
  await once(site, "listening");
  const elsewhere = `http://127.0.0.1:${site.address().port}`;
  const worker = new Worker();
  let browser;
  t.after(async () => {
    await browser?.close();
    await worker.remove();
    site.close();
  });
  await worker.start();
  browser = await launch([`--host-resolver-rules=MAP ${strange} 127.0.0.1`]);
  const page = await browser.newPage();
  const target = () => `http://127.0.0.1:${worker.port}`;
  const enqueued = () => worker.sql("SELECT count(*) FROM spillway.events WHERE type = 'FromAPage'").then(Number);

  await t.test("is kept out", async () => {
    await page.goto(elsewhere);
    assert.deepEqual(await page.evaluate(attempts, target()), allKeptOut);
    await page.goto("data:text/html,a page that is nobody's");
    assert.deepEqual(await page.evaluate(attempts, target()), allKeptOut);
    assert.equal(await enqueued(), 0);
  });

  await t.test("is kept out by a name that was made to lead here", async () => {
    const rebound = `http://${strange}:${worker.port}`;
    const answer = await page.goto(rebound);
    assert.equal(answer.status(), 403);
    const found = await page.evaluate(attempts, rebound);  // of its own origin, as the browser sees it
    assert.match(found.read, /^answered 403/);
    assert.match(found.enqueueAsJson, /^answered 403/);
    assert.equal(found.stream, "kept out");
    assert.equal(await enqueued(), 0);
  });

  await t.test("reads and enqueues once it is named", async () => {
    await worker.end("SIGTERM");
    await worker.start(["--cors", elsewhere]);
    await page.goto(elsewhere);
    const found = await page.evaluate(attempts, target());
    assert.equal(found.stream, "read connected");
    assert.equal(found.streamWithCookies, "read connected");
    assert.match(found.read, /^answered 200 \{/);
    assert.match(found.enqueueAsJson, /^answered 202/);
    assert.equal(await enqueued(), 1);
  });
});
