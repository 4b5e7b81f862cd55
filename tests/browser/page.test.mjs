// The page in Chromium against the real worker and a real PostgreSQL. The steps build on each other.
import assert from "node:assert/strict";
import path from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { launch, notInstalled } from "./chromium.mjs";
import { Worker, eventually, repository, required } from "../support/worker.mjs";

if (notInstalled) {
  console.log(notInstalled);
  process.exit(77);
}

const worker = new Worker({ options: [
  "--init", path.join(repository, "examples/comments/schema.sql"),
  "--handlers", required("SPILLWAY_COMMENTS"),
] });
let browser;
const errors = [];

async function openPage(query = "", options = {}) {
  const page = await browser.newPage({ viewport: { width: 1120, height: 900 }, ...options });
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) errors.push(message.text());
  });
  await page.goto(worker.url + query);
  return page;
}
const state = (page, wanted) => page.waitForSelector(`#status[data-state="${wanted}"]`);

// What the history shows, oldest first.
const history = (page) =>
  page.$$eval("#history > li", (items) =>
    items.map((item) => ({
      number: item.value,
      kind: item.querySelector(".kind").textContent,
      text: item.querySelector(".what").textContent,
    })).reverse());
const listed = (page, kind, text) =>
  eventually(`${kind} "${text}" in the history`, async () =>
    (await history(page)).find((entry) => entry.kind === kind && entry.text.includes(text)));

const quoted = (value) => `'${JSON.stringify(value).replaceAll("'", "''")}'`;
const insert = (type, payload, context = {}, stream = null) =>
  worker.sql(`INSERT INTO spillway.events (type, payload, context, stream) VALUES
    ('${type}', ${quoted(payload)}, ${quoted(context)}, ${stream === null ? "NULL" : `'${stream}'`})`);
const commentsWith = (text) => worker.sql(`SELECT count(*) FROM item_comments WHERE text = '${text}'`).then(Number);

test("the page", { timeout: 170_000 }, async (t) => {
  t.after(async () => {
    await browser?.close();
    await worker.remove();
  });
  await worker.start();
  browser = await launch();
  const page = await openPage();

  await t.test("says that it is connected, and lists nothing yet", async () => {
    await state(page, "connected");
    assert.equal(await page.textContent("#status"), "connected");
    assert.deepEqual(await history(page), []);
  });

  await t.test("lists a comment that was inserted by SQL, and its owner's notification", async () => {
    await insert("CommentAdded", { item_id: "42", author_name: "Ada", text: "by <i>SQL</i>" }, { item_owner_id: "1" });
    const comment = await listed(page, "CommentAdded", "Ada by <i>SQL</i>");
    assert.equal(comment.number, 1);
    assert.equal((await listed(page, "NewCommentNotification", "by <i>SQL</i>")).number, 2);
  });

  await t.test("does not list what goes to another item", async () => {
    await insert("CommentAdded", { item_id: "43", text: "elsewhere" }, {}, "order");
    await insert("CommentAdded", { item_id: "42", text: "here again" }, {}, "order");
    await listed(page, "CommentAdded", "here again");
    assert.ok(!(await history(page)).some((entry) => entry.text.includes("elsewhere")));
  });

  await t.test("listens for user_joined and message", async () => {
    await insert("UserJoined", { user: "Grace", room: "lobby" });
    await listed(page, "user_joined", "Grace joined lobby");
    await insert("MessageSent", { room: "lobby", author_name: "Grace", text: "good morning" });
    await listed(page, "message", "Grace good morning");
    await page.fill("#name", "Linus");
    await page.click("#join");
    await listed(page, "user_joined", "Linus joined lobby");
  });

  const second = await openPage();
  await t.test("sends what a person types to every open page, and writes the row", async () => {
    await state(second, "connected");
    await page.fill("#name", "Ada");
    await page.fill("#text", "typed by a person");
    await page.click("#send [type=submit]");
    for (const open of [page, second]) await listed(open, "CommentAdded", "Ada typed by a person");
    assert.equal(await commentsWith("typed by a person"), 1);
    await page.waitForFunction(() => document.getElementById("text").value === "");
  });

  await t.test("moves the progress bar with TaskProgress", async () => {
    await insert("TaskProgress", { task_id: "demo", percent: 40, message: "reading" });
    for (const open of [page, second]) {
      await open.waitForFunction(() => document.getElementById("progress").value === 40);
      assert.equal(await open.textContent("#task-message"), "reading");
    }
    await second.click("#run-task");
    await listed(page, "TaskComplete", "demo is complete");
    await page.waitForFunction(() => document.getElementById("progress").value === 100);
    const steps = (await history(page)).filter((entry) => entry.kind === "TaskProgress").map((entry) => entry.text);
    assert.deepEqual(steps, ["40 % reading", "0 % starting", "25 % reading", "50 % working", "75 % writing", "100 % done"]);
  });

  await t.test("keeps the last 20 messages and goes on counting", async () => {
    const before = (await history(page)).at(-1).number;
    await worker.sql(`INSERT INTO spillway.events (type, stream, payload)
      SELECT 'MessageSent', 'room:lobby', jsonb_build_object('author_name', 'Count', 'text', 'number ' || n)
      FROM generate_series(1, 30) n`);
    await listed(page, "message", "number 30");
    const shown = await history(page);
    assert.equal(shown.length, 20);
    assert.deepEqual(shown.map((entry) => entry.number), Array.from({ length: 20 }, (_, index) => before + 11 + index));
    assert.deepEqual(shown.map((entry) => entry.text), Array.from({ length: 20 }, (_, index) => `Count number ${index + 11}`));
  });

  await t.test("shows what the server refuses", async () => {
    await page.route("**/events", (route) =>
      route.fulfill({ status: 400, contentType: "application/json", body: '{"error":"no such type"}' }));
    await page.click("#join");
    await page.waitForSelector("#error:not([hidden])");
    assert.match(await page.textContent("#error"), /400.*no such type/);
    await page.unroute("**/events");
  });

  await t.test("says that it reconnects when the worker is killed, and then misses nothing", async () => {
    assert.equal(await worker.end("SIGKILL"), null);
    for (const open of [page, second]) await state(open, "reconnecting");
    const missed = Array.from({ length: 5 }, (_, index) => `while it was down ${index + 1}`);
    for (const text of missed) await insert("CommentAdded", { item_id: "42", author_name: "Ada", text }, {}, "item:42");
    await page.click("#join");
    await page.waitForSelector("#error:not([hidden])");
    assert.match(await page.textContent("#error"), /cannot be reached/);

    await worker.start();
    for (const open of [page, second]) await state(open, "connected");
    await insert("CommentAdded", { item_id: "42", author_name: "Ada", text: "after it came back" }, {}, "item:42");
    for (const open of [page, second]) {
      await listed(open, "CommentAdded", "after it came back");
      const shown = await history(open);
      assert.deepEqual(
        shown.slice(-6).map((entry) => entry.text),
        [...missed, "after it came back"].map((text) => `Ada ${text}`));
      assert.ok(!shown.some((entry) => entry.kind === "reset"));
    }
    for (const text of missed) assert.equal(await commentsWith(text), 1);
  });

  await t.test("opens a new stream by itself when EventSource has given up, from the last id", async () => {
    const lonely = await openPage();
    await state(lonely, "connected");
    const id = await lonely.textContent("#position");
    let refused = 0;
    await lonely.context().route("**/sse?*", (route) => {
      refused += 1;
      return route.fulfill({ status: 500, body: "" });
    });
    assert.equal(await worker.end("SIGKILL"), null);
    await eventually("a refused stream", async () => (refused > 0 ? true : undefined));
    await state(lonely, "reconnecting");
    await insert("MessageSent", { author_name: "Ada", text: "while EventSource was closed" });
    await worker.start();
    const asked = lonely.waitForRequest((request) => request.url().includes("last_event_id="));
    await lonely.context().unroute("**/sse?*");
    assert.equal(new URL((await asked).url()).searchParams.get("last_event_id"), id);
    await state(lonely, "connected");
    await listed(lonely, "message", "while EventSource was closed");
    await lonely.close();
  });

  await t.test("other channels are chosen in the page's address", async () => {
    const other = await openPage("?item=7&user=2&room=attic&task=t1");
    await state(other, "connected");
    await insert("MessageSent", { room: "attic", author_name: "Mouse", text: "squeak" });
    await listed(other, "message", "Mouse squeak");
    await other.close();
  });

  if (process.env.SPILLWAY_SCREENSHOT) await screenshot();

  await t.test("nothing went wrong in the page", () => assert.deepEqual(errors, []));

  await t.test("the worker ends with 0 on SIGTERM, streams open", async () => {
    assert.equal(await worker.end("SIGTERM"), 0, worker.output);
  });
});

// docs/page.png: the page as a visitor sees it, halfway through a task.
async function screenshot() {
  const page = await openPage("", { viewport: { width: 1120, height: 600 } });
  await state(page, "connected");
  await page.fill("#name", "Ada");
  await page.click("#join");
  await listed(page, "user_joined", "Ada");
  await insert("MessageSent", { author_name: "Grace", text: "Good morning. The stream has been up all night." });
  await listed(page, "message", "Good morning");
  await page.fill("#text", "Is the answer really 42?");
  await page.click("#send [type=submit]");
  await listed(page, "NewCommentNotification", "really 42");
  await insert("CommentAdded", { item_id: "42", author_name: "psql", text: "Yes. This line came by SQL, and the row and this message were committed together." }, { item_owner_id: "1" });
  await listed(page, "NewCommentNotification", "Yes.");
  await insert("TaskProgress", { task_id: "demo", percent: 64, message: "reading chapter 7" });
  await page.waitForFunction(() => document.getElementById("progress").value === 64);
  await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished)));
  await page.mouse.move(0, 0);
  await page.screenshot({ fullPage: true, path: fileURLToPath(new URL("../../docs/page.png", import.meta.url)) });
  await page.close();
}
