// `eventsource-client`: comes back after any answer but 204, also after a refusal; so its users put a fetch
// between that makes 204 of what will not change.
import { createEventSource } from "eventsource-client";

export const takesHeaders = true;

export function open(url, { headers = {}, lastEventId, without = [] } = {}, reader) {
  const guarded = async (input, init) => {
    const response = await fetch(input, init);
    if (response.status < 400 || response.status >= 500) return response;
    reader.error({ status: response.status, message: await response.text() });
    reader.state("closed");
    return new Response(null, { status: 204 });
  };
  const client = createEventSource({
    url,
    headers,
    initialLastEventId: lastEventId,
    fetch: without.includes("fetch") ? fetch : guarded,
    onMessage: ({ event, data, id }) => reader.event({ type: event ?? "message", data, id: id ?? "" }),
    onConnect: () => { if (!reader.closed) reader.state("open"); },
    onScheduleReconnect: () => { reader.error({}); reader.state("connecting"); },
  });
  return reader.closes(() => client.close());
}
