// Chromium's own EventSource, in pages of the stream's origin. An address takes six connections of a browser's
// profile at most, so there are several profiles.
import { launch, notInstalled } from "../../browser/chromium.mjs";
import { resumingUrl } from "../urls.mjs";

export const skipped = notInstalled;
export const takesHeaders = false;
export const takesCookie = true;
// Its error events do not say why.
export const tellsStatus = false;
export const parallel = 10;

const STREAMS_OF_A_PROFILE = 5;
let browser;
let numbers = 0;
const readers = new Map();
const profiles = [];  // {context, pages: Map of origin to page, streams}

export async function start() { browser = await launch(); }
export async function stop() { await browser?.close(); }

// Runs in the page.
function script() {
  const sources = {};
  const pending = [];
  const report = (entry) => {
    if (pending.push(entry) === 1) setTimeout(() => window.spillwayReport(pending.splice(0)), 0);
  };
  window.spillwayOpen = (number, url, types) => {
    const source = sources[number] = new EventSource(url);
    const take = (event) => report([number, "event", { type: event.type, data: event.data, id: event.lastEventId }]);
    for (const type of types) source.addEventListener(type, take);
    source.onopen = () => report([number, "state", "open"]);
    source.onerror = () => {
      report([number, "error", {}]);
      report([number, "state", source.readyState === EventSource.CLOSED ? "closed" : "connecting"]);
    };
  };
  window.spillwayClose = (number) => { sources[number].close(); delete sources[number]; };
}

async function makeProfile(cookie) {
  const context = await browser.newContext();
  if (cookie) await context.addCookies([cookie]);
  await context.exposeBinding("spillwayReport", (_, entries) => {
    for (const [number, kind, what] of entries) readers.get(number)?.[kind](what);
  });
  await context.addInitScript(script);
  return context;
}

async function pageOf(profile, origin) {
  const page = await (await profile.context).newPage();
  await page.goto(`${origin}/healthz`);
  return page;
}

// `from`: the origin of the page, where it is not the stream's. `cookie`: in a profile of its own.
export function open(url, { types = [], lastEventId, from, cookie } = {}, reader) {
  const number = numbers++;
  readers.set(number, reader);
  let profile = cookie ? undefined : profiles.find((one) => one.streams < STREAMS_OF_A_PROFILE);
  if (!profile) profiles.push(profile = { context: makeProfile(cookie && { ...cookie, url: new URL(url).origin }), pages: new Map(), streams: 0 });
  profile.streams += cookie ? STREAMS_OF_A_PROFILE : 1;
  const origin = from ?? new URL(url).origin;
  if (!profile.pages.has(origin)) profile.pages.set(origin, pageOf(profile, origin));
  const opened = profile.pages.get(origin).then(async (page) => {
    await page.evaluate(([n, address, names]) => window.spillwayOpen(n, address, names), [number, resumingUrl(url, lastEventId), types]);
    return page;
  });
  opened.catch((error) => reader.error({ message: error.message }));
  return reader.closes(async () => {
    await (await opened).evaluate((n) => window.spillwayClose(n), number);
    readers.delete(number);
    profile.streams -= 1;
  });
}
