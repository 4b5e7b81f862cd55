-- Requests that TriggerWebhook effects ask for, and what became of them.

-- id is what the receiver gets as Idempotency-Key, so it is unique across databases. `sending` holds
-- until next_attempt_at: whoever sends it has died when that time has come.
CREATE TABLE spillway.webhooks (
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  event_id        bigint NOT NULL,
  correlation_id  uuid NOT NULL,
  name            text NOT NULL DEFAULT '',
  url             text NOT NULL,
  host            text COLLATE "C" NOT NULL,
  payload         jsonb NOT NULL,
  headers         jsonb NOT NULL DEFAULT '{}',
  status          text NOT NULL DEFAULT 'pending'
                  CONSTRAINT webhooks_status CHECK (status IN ('pending', 'sending', 'sent', 'failed', 'dead')),
  attempts        smallint NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  last_status     int,
  last_error      text,
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at     timestamptz,
  CONSTRAINT webhooks_finished CHECK ((status IN ('sent', 'dead')) = (finished_at IS NOT NULL))
);
-- By host: a long line for one host is not in the way of the others.
CREATE INDEX webhooks_due ON spillway.webhooks (host, next_attempt_at) WHERE finished_at IS NULL;
CREATE INDEX webhooks_event ON spillway.webhooks (event_id);
COMMENT ON TABLE spillway.webhooks IS 'Webhooks of TriggerWebhook effects, with their status.';
