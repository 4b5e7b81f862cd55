// `event-source-polyfill`: EventSource with headers, on fetch. It resumes by `lastEventId` in the query.
import polyfill from "event-source-polyfill";

import { resumingUrl } from "../urls.mjs";

export const takesHeaders = true;
// It waits a second at least, whatever `retry:` says.
export const shortestRetry = 1000;

console.error = () => {};  // it prints every cut

export function open(url, { types = [], headers = {}, lastEventId } = {}, reader) {
  const source = new polyfill.EventSourcePolyfill(resumingUrl(url, lastEventId), { headers });
  const take = (event) => reader.event({ type: event.type, data: event.data, id: event.lastEventId });
  for (const type of types) source.addEventListener(type, take);
  source.addEventListener("open", () => reader.state("open"));
  source.addEventListener("error", (event) => {
    reader.error({ status: event.status, message: event.error?.message });
    reader.state(source.readyState === polyfill.EventSourcePolyfill.CLOSED ? "closed" : "connecting");
  });
  return reader.closes(() => source.close());
}
