// Answers that are not streams: the client says so and does not come back again and again.
import assert from "node:assert/strict";

export async function expectRefusal(stage, status, target, options = {}) {
  const reader = stage.open(target, options);
  await reader.until(`an error for ${status}`, () => reader.errors.length > 0 && reader.closed);
  assert.match(reader.route.requests[0].head, new RegExp(`^HTTP/1\\.1 ${status} `));
  const error = reader.errors.find((one) => one.status !== undefined);
  if (stage.adapter.tellsStatus !== false) assert.equal(error?.status, status);
  assert.deepEqual([reader.events, reader.openings], [[], []]);
  return () => {
    const gets = reader.route.requests.filter(({ line }) => line.startsWith("GET "));
    assert.equal(gets.length, 1, `after ${status} it came back`);
  };
}

export const refusals = [
  { name: "404 for an unknown path: an error, and no second request", run: (stage) => expectRefusal(stage, 404, "/nowhere") },
  { name: "400 for a wrong channel: an error, and no second request", run: (stage) => expectRefusal(stage, 400, "/sse?channel=") },
];
