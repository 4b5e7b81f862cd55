# {order_id, mail_url?}, scheduled by OrderPlaced. What counts is the order's state now.
.payload as {order_id: $order, mail_url: $mail_url}
| [.data[] | select(.state != "paid")
   | . as {email: $email, user_id: $user}
   | ($mail_url | values
      | {TriggerWebhook: {url: ., name: "payment-reminder",
                          payload: {to: $email, subject: "Order \($order) is not paid yet"}}}),
     {SSEBroadcast: {channel: "NotificationStream:user:\($user)", event_type: "PaymentReminder",
                     data: {order_id: $order}}}]
