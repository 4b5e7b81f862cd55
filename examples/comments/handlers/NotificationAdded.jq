# {user_id, text, notification_id?}: a notification that stays, for a user who may be away.

def id($name):
  if (type == "string" and . != "") or (type == "number" and . == floor) then tostring
  else error("\($name) must be a non-empty string or a whole number, not \(tojson); write for example \"42\"")
  end;

def member($name; $example):
  .payload
  | if type != "object" then error("the payload must be an object such as {\($example)}") else . end
  | .[$name]
  | if . == null then error("payload.\($name) is missing; write for example {\($example)}") else . end;

try (
  (member("user_id"; "\"user_id\":\"1\",\"text\":\"Welcome\"") | id("payload.user_id")) as $user
  | [
      {Insert: {table: "notifications", data: .payload}},
      {SSEBroadcast: {channel: "NotificationStream:user:\($user)", event_type: "NotificationAdded", data: .payload}}
    ]
) catch {error: .}
