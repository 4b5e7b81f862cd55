SELECT state FROM orders WHERE order_id = event->'payload'->>'order_id'
