# {task_id, percent, message?}: percent from 0 to 100; at 100 the task is complete.

def id($name):
  if (type == "string" and . != "") or (type == "number" and . == floor) then tostring
  else error("\($name) must be a non-empty string or a whole number, not \(tojson); write for example \"42\"")
  end;

def member($name):
  "{\"task_id\":\"demo\",\"percent\":40,\"message\":\"reading\"}" as $example
  | .payload
  | if type != "object" then error("the payload must be an object such as \($example)") else . end
  | .[$name]
  | if . == null then error("payload.\($name) is missing; write for example \($example)") else . end;

try (
  (member("task_id") | id("payload.task_id")) as $task
  | member("percent") as $percent
  | if ($percent | type) != "number" or $percent < 0 or $percent > 100 then
      error("payload.percent must be a number from 0 to 100, not \($percent | tojson)")
    else .
    end
  | "TaskStream:task:\($task)" as $channel
  | [
      {SSEBroadcast: {channel: $channel, event_type: "TaskProgress", data: .payload}},
      (select($percent >= 100)
       | {SSEBroadcast: {channel: $channel, event_type: "TaskComplete", data: {task_id: $task}}})
    ]
) catch {error: .}
