# {order_id, user_id, email, sku, quantity}, context {mail_url?, reminder_minutes?}, on the stream
# sku:<sku>. The stream is what keeps the stock right: orders of one product are handled one after
# the other, and the read of each sees what the one before has left. An order on another stream
# could be handled at the same time as one that takes the same item, so it is not accepted.

def text($name):
  .payload[$name]
  | if type == "string" and . != "" then .
    else error("payload.\($name) must be a non-empty string, not \(tojson)")
    end;

def quantity:
  .payload.quantity
  | if type == "number" and . == floor and . >= 1 and . <= 1000 then .
    else error("payload.quantity must be a whole number from 1 to 1000, not \(tojson)")
    end;

try (
  if (.payload | type) != "object" then error("the payload must be an object") else . end
  | text("order_id") as $order | text("user_id") as $user | text("email") as $email
  | text("sku") as $sku | quantity as $quantity
  | if .stream != "sku:\($sku)" then
      error("an order of \($sku) belongs on the stream \"sku:\($sku)\", not \(.stream | tojson)")
    else .
    end
  | (.context | if type == "object" then . else {} end) as $context
  | (.data[0] // error("there is no product \"\($sku)\"")) as $product
  | ($product.left_in_stock - $quantity) as $left
  | "OrderStream:order:\($order)" as $channel
  | if $product.known then
      {effects: [], response: {accepted: false, reason: "order \($order) is there already"}}
    elif $left < 0 then
      {effects: [{SSEBroadcast: {channel: $channel, event_type: "OrderRefused",
                                 data: {order_id: $order, sku: $sku, left: $product.left_in_stock}}}],
       response: {accepted: false, left: $product.left_in_stock}}
    else
      {effects: [
         {Insert: {table: "orders",
                   data: {order_id: $order, user_id: $user, email: $email,
                          confirmation: (if $context.mail_url then "pending" else "none" end)}}},
         {Insert: {table: "order_lines",
                   data: {order_id: $order, sku: $sku, quantity: $quantity,
                          price_cents: $product.price_cents}}},
         {Update: {table: "stock", set: {left_in_stock: $left}, where: {sku: $sku}}},
         ($context.mail_url | values
          | {TriggerWebhook: {
               url: ., name: "order-confirmation",
               payload: {to: $email, subject: "Your order \($order)",
                         text: "\($quantity) x \($product.name): thank you."}}}),
         {ScheduleEvent: {event_type: "PaymentReminder", stream: "order:\($order)",
                          payload: ({order_id: $order}
                                    + if $context.mail_url then {mail_url: $context.mail_url} else {} end),
                          delay_minutes: ($context.reminder_minutes // 1440),
                          idempotency_key: "reminder-\($order)"}},
         {SSEBroadcast: {channel: $channel, event_type: "OrderPlaced",
                         data: {order_id: $order, sku: $sku, quantity: $quantity}}}
       ],
       response: {accepted: true, left: $left}}
    end
) catch {error: .}
