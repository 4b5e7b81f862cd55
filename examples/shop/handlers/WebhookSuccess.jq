# {webhook_id, name, url, status, attempts, response?}: a webhook was taken.
[select(.payload.name == "order-confirmation") | .data[]
 | {Update: {table: "orders", set: {confirmation: "sent"}, where: {order_id}}},
   {SSEBroadcast: {channel: "NotificationStream:user:\(.user_id)", event_type: "TaskComplete",
                   data: {task: "order-confirmation", order_id}}}]
