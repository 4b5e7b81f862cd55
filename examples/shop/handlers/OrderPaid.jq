# {order_id, user_id}, on the stream order:<order_id>, as the reminder is. The order itself came by
# the stream of its product: a payment that overtakes it fails, and is tried again.
.payload.order_id as $order
| if .data == [] then {error: "there is no order \($order | tojson) yet"}
  elif .data[0].state == "paid" then []
  else
    [{Update: {table: "orders", set: {state: "paid"}, where: {order_id: $order}}},
     {SSEBroadcast: {channel: "OrderStream:order:\($order)", event_type: "OrderPaid",
                     data: {order_id: $order}}}]
  end
