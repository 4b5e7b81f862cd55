# {webhook_id, name, url, status, attempts, error}: a webhook was given up.
.payload as {name: $name, error: $error}
| [select($name == "order-confirmation") | .data[]
   | {Update: {table: "orders", set: {confirmation: "failed"}, where: {order_id}}},
     {Log: {level: "warning", message: "no confirmation was sent",
            fields: {order_id, error: $error}}}]
