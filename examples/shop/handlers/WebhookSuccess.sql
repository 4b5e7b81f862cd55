-- The order whose event asked for the webhook: that event's id is the causation_id of this one.
SELECT o.order_id, o.user_id
FROM spillway.events e JOIN orders o ON o.order_id = e.payload->>'order_id'
WHERE e.id = (event->>'causation_id')::bigint AND e.type = 'OrderPlaced'
