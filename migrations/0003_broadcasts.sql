-- The outbox of the streams.

-- One row: where the line of positions stands. Whoever commits broadcasts updates it last, just
-- before COMMIT; the row lock makes positions dense and gives them the order of the commits.
CREATE TABLE spillway.stream_head (
  one            boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch          text NOT NULL,             -- names this line of positions in event ids
  last           bigint NOT NULL DEFAULT 0, -- last position given out
  last_ephemeral bigint NOT NULL DEFAULT 0, -- the same for ephemeral broadcasts
  floor          bigint NOT NULL DEFAULT 0  -- positions up to here are no longer kept
) WITH (fillfactor = 10);
INSERT INTO spillway.stream_head (epoch)
VALUES (substr(replace(gen_random_uuid()::text, '-', ''), 1, 8));

-- data is json, not jsonb: a replayed frame must have the bytes of the live one.
CREATE TABLE spillway.broadcasts (
  position   bigint PRIMARY KEY,
  channel    text COLLATE "C" NOT NULL,
  event_type text NOT NULL,
  data       json NOT NULL,
  event_id   bigint,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX broadcasts_channel ON spillway.broadcasts (channel, position);
COMMENT ON TABLE spillway.broadcasts IS 'Broadcasts in commit order, dense positions; streams replay from here.';

-- Live-only broadcasts on their way to other processes; of no use a minute later, so not logged.
CREATE UNLOGGED TABLE spillway.ephemeral_broadcasts (
  number     bigint PRIMARY KEY,
  position   bigint NOT NULL,  -- last durable position before it
  channel    text NOT NULL,
  event_type text NOT NULL,
  data       json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
