-- Who listens: what each process that serves streams says of its own.

-- Not logged: after a crash of PostgreSQL nobody is connected to anything, and each process writes what
-- it has anew as soon as it finds its row of spillway.stream_servers gone. Rows of a process that is not
-- among spillway.live_workers do not count; upkeep removes them.
CREATE UNLOGGED TABLE spillway.subscribers (
  worker      bigint NOT NULL,             -- of spillway.workers
  channel     text COLLATE "C" NOT NULL,   -- or a pattern, which counts for itself
  member      text COLLATE "C" NOT NULL DEFAULT '',  -- '': all whose name is not told
  connections int NOT NULL,
  version     bigint,  -- of stream_servers when it was written; null where nobody is told (no --presence)
  PRIMARY KEY (worker, channel, member)
) WITH (autovacuum_vacuum_scale_factor = 0.1, fillfactor = 80);
CREATE INDEX subscribers_version ON spillway.subscribers (worker, version) WHERE version IS NOT NULL;
COMMENT ON TABLE spillway.subscribers IS 'Open streams of each process by channel, a second old at most; spillway.channels sums them up.';

-- version: of the last write; whoever has read up to one reads what is newer. A row with no connections
-- stays until readers have had the time to see it go; floor: up to here such rows have been removed.
CREATE UNLOGGED TABLE spillway.stream_servers (
  worker  bigint PRIMARY KEY,
  version bigint NOT NULL,
  floor   bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE spillway.stream_servers IS 'How far each process has written spillway.subscribers.';

CREATE VIEW spillway.channels AS
SELECT s.channel, sum(s.connections)::bigint AS subscribers, count(DISTINCT s.worker) AS processes
FROM spillway.subscribers s
WHERE s.connections > 0 AND s.worker IN (SELECT w.id FROM spillway.live_workers w)
GROUP BY s.channel;
COMMENT ON VIEW spillway.channels IS 'Channels and patterns with open streams, over all processes.';

-- What a channel may be called is one rule at both ends, sse/channel_name.hpp, in the same words: a name
-- that only a pattern could be is refused, since nobody can subscribe to it by its name.
CREATE OR REPLACE FUNCTION spillway.broadcast(
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
    WHEN channel ~ '[\x01-\x1f\x7f]' THEN 'channel contains a control character, such as a line break'
    WHEN channel = '*' OR right(channel, 2) = ':*'
      THEN 'channel is a pattern, which only subscribers can name; write one channel''s name, such as CommentStream:item:42'
    WHEN event_type IS NULL THEN 'event_type is null; write '''' for a broadcast without a type'
    WHEN octet_length(event_type) > 255 THEN 'event_type is longer than 255 bytes'
    WHEN event_type ~ '[\x01-\x1f\x7f]' THEN 'event_type contains a control character, such as a line break' END;
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
