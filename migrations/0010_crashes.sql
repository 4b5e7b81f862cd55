-- Events that may have taken a process down, and how far the search for them has to go.

-- Lanes under suspicion: a process ended uncleanly, and the events that it had in hand are among those
-- up to until_seq. Empty nearly always.
CREATE TABLE spillway.suspicion (
  lane      smallint PRIMARY KEY,
  until_seq bigint NOT NULL
);

-- Written, and committed, before the handlers of these events run: whoever finds a row of a process
-- that does not live knows what was in its hands. Without a worker the matter is settled: with crashes
-- = 0 the event was one of several and has to run alone, with 1 it was alone, or was seen to hang.
CREATE TABLE spillway.suspects (
  event_id       bigint PRIMARY KEY,
  lane           smallint NOT NULL,
  crashes        smallint NOT NULL,
  worker         bigint,                -- spillway.workers.id
  process        text,                  -- the same for people
  error          text,                  -- what is known of the end
  server_started timestamptz NOT NULL DEFAULT pg_postmaster_start_time(),
  recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE spillway.suspects IS 'Events in hand while the search for one that ends processes goes on.';

-- Its last attempt ended the process, or it was there when that happened: run it alone.
ALTER TABLE spillway.waiting ADD COLUMN suspect boolean NOT NULL DEFAULT false;

-- It has ended a process: when it is tried again, alone.
ALTER TABLE spillway.dead_letters ADD COLUMN suspect boolean NOT NULL DEFAULT false;
