// The EventSource of `undici`, which is Node's own as well.
import { EventSource } from "undici";

import { resumingUrl } from "../urls.mjs";

export const takesHeaders = false;
// Its error events do not say why.
export const tellsStatus = false;

export function open(url, { types = [], lastEventId } = {}, reader) {
  const source = new EventSource(resumingUrl(url, lastEventId));
  const take = (event) => reader.event({ type: event.type, data: event.data, id: event.lastEventId });
  for (const type of types) source.addEventListener(type, take);
  source.addEventListener("open", () => reader.state("open"));
  source.addEventListener("error", (event) => {
    reader.error({ message: event.message });
    reader.state(source.readyState === EventSource.CLOSED ? "closed" : "connecting");
  });
  return reader.closes(() => source.close());
}
