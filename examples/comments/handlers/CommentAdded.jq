# {comment_id, item_id, author_name, text, timestamp}, context {item_owner_id}: the row, the item's
# stream and, where the context names an owner, the owner's notifications. What may stand in the
# row is for the table to say, so nothing is checked twice.

# An id may arrive as 42 or as "42"; both name the same channel.
def id($name):
  if (type == "string" and . != "") or (type == "number" and . == floor) then tostring
  else error("\($name) must be a non-empty string or a whole number, not \(tojson); write for example \"42\"")
  end;

def member($name; $example):
  .payload
  | if type != "object" then error("the payload must be an object such as {\($example)}") else . end
  | .[$name]
  | if . == null then error("payload.\($name) is missing; write for example {\($example)}") else . end;

def note($item):
  {item_id: $item}
  + if has("comment_id") then {comment_id} else {} end
  + if has("author_name") then {author_name} else {} end
  + if has("text") then {text} else {} end
  + if has("timestamp") then {timestamp} else {} end;

try (
  (member("item_id"; "\"item_id\":\"42\",\"text\":\"hi\"") | id("payload.item_id")) as $item
  | .payload as $comment
  | [
      {Insert: {table: "item_comments", data: $comment}},
      {SSEBroadcast: {channel: "CommentStream:item:\($item)", event_type: "CommentAdded", data: $comment}},
      (.context | objects | .item_owner_id | values | id("context.item_owner_id")
       | {SSEBroadcast: {channel: "NotificationStream:user:\(.)", event_type: "NewCommentNotification",
                         data: ($comment | note($item))}})
    ]
) catch {error: .}
