-- Keys and values that handlers keep with KVSet. Expired ones are removed within seconds; who reads them
-- from SQL and must be exact adds `expires_at IS NULL OR expires_at > now()`.

CREATE TABLE spillway.kv (
  key        text PRIMARY KEY,
  value      jsonb NOT NULL,
  expires_at timestamptz
);
CREATE INDEX kv_expires ON spillway.kv (expires_at) WHERE expires_at IS NOT NULL;
COMMENT ON TABLE spillway.kv IS 'Written by KVSet and KVDelete effects.';
