// `@microsoft/fetch-event-source`: callbacks on fetch. By itself it ends when the stream does, comes back for
// ever after a refusal, and takes an id over before it has the event; its users mend that with the hooks.
import fes from "@microsoft/fetch-event-source";

// It is made for pages, and asks these two for what a page has.
globalThis.window ??= globalThis;
globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} };

export const takesHeaders = true;

// It drops empty lines at the beginning of the data, and a byte order mark at the beginning of each line.
export const dataArrivesAs = (data) => data.split("\n").map((line) => line.replace(/^\uFEFF/, "")).join("\n").replace(/^\n+/, "");

class Refused extends Error {}

export function open(url, { headers = {}, lastEventId, without = [] } = {}, reader) {
  const abort = new AbortController();
  let last = lastEventId;
  const remembered = (input, init) => {
    const sent = { ...init.headers };
    delete sent["last-event-id"];
    if (last) sent["last-event-id"] = last;
    return fetch(input, { ...init, headers: sent });
  };
  const hooks = {
    fetch: remembered,
    async onopen(response) {
      if (response.ok) return reader.state("open");
      if (response.status < 500) throw Object.assign(new Refused(await response.text()), { status: response.status });
      throw new Error(`status ${response.status}`);
    },
    onclose() { throw new Error("the stream has ended"); },
  };
  fes.fetchEventSource(url, {
    signal: abort.signal,
    headers: { ...headers, ...(lastEventId ? { "last-event-id": lastEventId } : {}) },
    openWhenHidden: true,
    onmessage({ event, data, id }) {
      if (id) last = id;
      else if (!without.includes("filter")) return;  // `retry:` alone
      reader.event({ type: event || "message", data, id });
    },
    onerror(error) {
      reader.error({ status: error.status, message: error.message });
      if (error instanceof Refused) throw error;
      reader.state("connecting");
    },
    ...Object.fromEntries(Object.entries(hooks).filter(([name]) => !without.includes(name))),
  }).finally(() => reader.state("closed")).catch(() => {});
  return reader.closes(() => abort.abort());
}
