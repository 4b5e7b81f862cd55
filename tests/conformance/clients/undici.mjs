// The EventSource of `undici`, which is Node's own as well. It gives up for good when nobody is there at the
// moment it comes back, and tells only afterwards; so its users ask with HEAD whether to open a new one.
import { EventSource } from "undici";

import { resumingUrl } from "../urls.mjs";

export const takesHeaders = false;

export function open(url, { types = [], lastEventId, without = [] } = {}, reader) {
  let source;
  let last = lastEventId;
  let stopped = false;

  function connect() {
    source = new EventSource(resumingUrl(url, last));
    const take = (event) => {
      last = event.lastEventId;
      reader.event({ type: event.type, data: event.data, id: event.lastEventId });
    };
    for (const type of types) source.addEventListener(type, take);
    source.addEventListener("open", () => reader.state("open"));
    source.addEventListener("error", (event) => {
      reader.error({ message: event.message });
      setImmediate(() => lookAfter(event.target));
    });
  }

  async function lookAfter(failed) {
    if (stopped || failed !== source) return;
    if (failed.readyState !== EventSource.CLOSED) return reader.state("connecting");
    source = undefined;  // two error events may have come of one failure
    if (without.includes("HEAD")) return reader.state("closed");
    const status = await fetch(url, { method: "HEAD" }).then((answer) => answer.status, () => 503);
    const refused = status >= 400 && status < 500;
    if (refused) reader.error({ status });
    if (refused) return reader.state("closed");
    reader.state("connecting");
    setTimeout(() => { if (!stopped) connect(); }, 200);
  }

  connect();
  return reader.closes(() => {
    stopped = true;
    source?.close();
  });
}
