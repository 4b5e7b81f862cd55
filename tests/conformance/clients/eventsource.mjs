// npm `eventsource`: the browser's interface on Node.js; headers through a fetch of one's own.
import { EventSource } from "eventsource";

import { resumingUrl } from "../urls.mjs";

export const takesHeaders = true;

export function open(url, { types = [], headers = {}, lastEventId } = {}, reader) {
  const source = new EventSource(resumingUrl(url, lastEventId), {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
  });
  const take = (event) => reader.event({ type: event.type, data: event.data, id: event.lastEventId });
  for (const type of types) source.addEventListener(type, take);
  source.addEventListener("open", () => reader.state("open"));
  source.addEventListener("error", (event) => {
    reader.error({ status: event.code, message: event.message });
    reader.state(source.readyState === EventSource.CLOSED ? "closed" : "connecting");
  });
  return reader.closes(() => source.close());
}
