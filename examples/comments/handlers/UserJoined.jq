# {user, room?}

def id($name):
  if (type == "string" and . != "") or (type == "number" and . == floor) then tostring
  else error("\($name) must be a non-empty string or a whole number, not \(tojson); write for example \"42\"")
  end;

def text($name; $example):
  .payload
  | if type != "object" then error("the payload must be an object such as {\($example)}") else . end
  | .[$name]
  | if . == null then error("payload.\($name) is missing; write for example {\($example)}")
    elif type != "string" or . == "" then
      error("payload.\($name) must be a non-empty string, not \(tojson); write for example {\($example)}")
    else .
    end;

try (
  text("user"; "\"user\":\"Ada\",\"room\":\"lobby\"") as $user
  | (.payload.room | if . == null then "lobby" else id("payload.room") end) as $room
  | [{SSEBroadcast: {channel: "ChatStream:room:\($room)", event_type: "user_joined",
                     data: {user: $user, room: $room}}}]
) catch {error: .}
