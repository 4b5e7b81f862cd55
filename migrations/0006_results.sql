-- What handlers answered, for POST /events?wait= and for whoever looks within the time it is kept.

CREATE TABLE spillway.results (
  event_id   bigint PRIMARY KEY,
  response   jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX results_created_at ON spillway.results (created_at);
COMMENT ON TABLE spillway.results IS 'Responses of handlers, kept for a day.';
