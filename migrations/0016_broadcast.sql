-- A broadcast from any transaction. It travels as an event, so it never waits for the head of the
-- positions and never makes a worker wait; it reaches the streams once a worker has taken it, after the
-- transaction has committed. Broadcasts to one channel keep their order.
--
-- Needs what enqueueing needs: INSERT on spillway.events. Returns the event's id.
CREATE FUNCTION spillway.broadcast(
  channel text, event_type text, data jsonb DEFAULT 'null', ephemeral boolean DEFAULT false
) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  problem text;
  new_id bigint;
BEGIN
  problem := CASE
    WHEN channel IS NULL OR channel = '' THEN 'channel is empty; write a name like CommentStream:item:42'
    WHEN octet_length(channel) > 255 THEN 'channel is longer than 255 bytes'
    WHEN channel ~ '[\x01-\x1f\x7f]' THEN 'channel contains a control character'
    WHEN event_type IS NULL THEN 'event_type is null; write '''' for a broadcast without a type'
    WHEN octet_length(event_type) > 255 THEN 'event_type is longer than 255 bytes'
    WHEN event_type ~ '[\x01-\x1f\x7f]' THEN 'event_type contains a control character' END;
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'spillway.broadcast: %', problem USING ERRCODE = '22023';
  END IF;
  INSERT INTO spillway.events (type, payload, stream)
  VALUES ('spillway.Broadcast',
          jsonb_build_object('channel', broadcast.channel, 'event_type', broadcast.event_type,
                             'data', coalesce(broadcast.data, 'null'),
                             'ephemeral', coalesce(broadcast.ephemeral, false)),
          'broadcast:' || broadcast.channel)
  RETURNING id INTO new_id;
  RETURN new_id;
END $$;
