-- The product and what is left of it, and whether the order is there already.
SELECT p.name, p.price_cents, s.left_in_stock,
       EXISTS (SELECT FROM orders o WHERE o.order_id = event->'payload'->>'order_id') AS known
FROM products p JOIN stock s USING (sku)
WHERE sku = event->'payload'->>'sku'
