# The plain events, in jq.
.payload as $payload
| [{Insert: {table: "handled",
             data: {mark: $payload.m, event_id: .id, stream: .stream, attempt: .attempt}}}]
  + [range(0; $payload.tell | length) as $i
     | {SSEBroadcast: {channel: $payload.tell[$i], event_type: "said",
                       data: {m: $payload.m, i: $i}}}]
