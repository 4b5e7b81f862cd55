// The address with which an EventSource, which has no headers, starts from an id.
export function resumingUrl(url, lastEventId) {
  if (lastEventId === undefined) return url;
  const resuming = new URL(url);
  resuming.searchParams.set("last_event_id", lastEventId);
  return resuming.href;
}
