-- The log. Append-only: what happened is never changed.

GRANT USAGE ON SCHEMA spillway TO PUBLIC;

CREATE TABLE spillway.events (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  type            text NOT NULL CONSTRAINT events_type_not_empty CHECK (type <> ''),
  payload         jsonb NOT NULL DEFAULT '{}',
  stream          text CONSTRAINT events_stream_not_empty CHECK (stream <> ''),
  stream_version  int CONSTRAINT events_stream_version_positive CHECK (stream_version > 0),
  context         jsonb NOT NULL DEFAULT '{}',
  correlation_id  uuid NOT NULL DEFAULT gen_random_uuid(),
  causation_id    bigint,
  idempotency_key text CONSTRAINT events_idempotency_key UNIQUE,
  priority        smallint NOT NULL DEFAULT 0,
  execute_at      timestamptz NOT NULL DEFAULT now(),
  max_attempts    smallint CONSTRAINT events_max_attempts_positive CHECK (max_attempts > 0),
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT events_version_needs_stream CHECK (stream_version IS NULL OR stream IS NOT NULL)
);
COMMENT ON TABLE spillway.events IS 'The event log: INSERT to enqueue; rows are never updated or deleted by users.';

-- Optimistic concurrency: two writers cannot both add version N. Partial, so that events without a
-- version pay nothing.
CREATE UNIQUE INDEX events_stream_version ON spillway.events (stream, stream_version)
  WHERE stream_version IS NOT NULL;

-- Enough for INSERT … RETURNING id with nothing but the INSERT privilege.
GRANT SELECT (id) ON spillway.events TO PUBLIC;

CREATE FUNCTION spillway.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'spillway.events is append-only: % is refused', TG_OP
    USING HINT = 'Insert a new event that says what changed.';
END $$;

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON spillway.events
  FOR EACH STATEMENT EXECUTE FUNCTION spillway.refuse_change();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON spillway.events
  FOR EACH STATEMENT EXECUTE FUNCTION spillway.refuse_change();
