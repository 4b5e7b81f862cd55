// The page in Chromium where tokens are asked for: by query, by cookie, to the end of a token.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";

import { launch, notInstalled } from "./chromium.mjs";
import { Worker, eventually, required } from "../support/worker.mjs";

if (notInstalled) {
  console.log(notInstalled);
  process.exit(77);
}

test("the page with tokens", { timeout: 170_000 }, async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), "spillway-token-"));
  const key = path.join(folder, "key");
  writeFileSync(key, "k".repeat(40));
  const sign = (...options) =>
    execFileSync(required("SPILLWAY_BIN"), ["token", "--auth-key", key, "--subscribe", "*", ...options], { encoding: "utf8" }).trim();
  const worker = new Worker({ options: ["--auth-key", key] });
  let browser;
  t.after(async () => {
    await browser?.close();
    await worker.remove();
    rmSync(folder, { recursive: true, force: true });
  });
  await worker.start();
  browser = await launch();
  const state = (page, wanted) => page.waitForSelector(`#status[data-state="${wanted}"]`, { timeout: 30_000 });
  const enqueue = (page) => page.evaluate(() => post({ type: "FromThePage" }).then(() => "sent", (error) => error.message));

  await t.test("without one it is kept out", async () => {
    const page = await browser.newPage();
    const refused = page.waitForResponse((response) => response.url().includes("/sse"));
    await page.goto(worker.url);
    assert.equal((await refused).status(), 401);
    assert.match(await enqueue(page), /401/);
    await page.close();
  });

  await t.test("one in the query opens streams and events", async () => {
    const page = await browser.newPage();
    await page.goto(`${worker.url}?access_token=${sign("--publish")}`);
    await state(page, "connected");
    assert.equal(await enqueue(page), "sent");
    await page.close();
  });

  await t.test("a cookie does too, and the stream ends with it", async () => {
    const context = await browser.newContext();
    await context.addCookies([{ name: "spillway_token", value: sign("--publish", "--expires", "8s"), url: worker.url, httpOnly: true, sameSite: "Strict" }]);
    const page = await context.newPage();
    await page.goto(worker.url);
    await state(page, "connected");
    assert.equal(await enqueue(page), "sent");
    const refused = page.waitForResponse((response) => response.url().includes("/sse") && response.status() === 401, { timeout: 60_000 });
    await state(page, "reconnecting");
    await refused;
    // A new one, and it goes on by itself.
    await context.addCookies([{ name: "spillway_token", value: sign(), url: worker.url }]);
    await state(page, "connected");
    await context.close();
  });

  assert.equal(worker.output.includes(sign("--expires", "never").slice(0, 20)), false);
  await eventually("both events", async () =>
    (await worker.sql("SELECT count(*) FROM spillway.events WHERE type = 'FromThePage'")) === "2" || undefined);
});
