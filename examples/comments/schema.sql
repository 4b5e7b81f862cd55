-- Tables of the comments example. Plain SQL for psql; running it again changes nothing.
--
-- An event's payload reaches a table as JSON, one key per column, and PostgreSQL converts each value
-- to the column's type: 42 and "42" both fit item_id, an ISO 8601 string fits timestamp, and a key
-- that is left out takes the column's default.

SET client_min_messages = warning;  -- no notice about what is there already

CREATE TABLE IF NOT EXISTS items (
  item_id    text PRIMARY KEY,
  owner_id   text NOT NULL,
  title      text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- No foreign key to items: comments may be about things that live in another database.
CREATE TABLE IF NOT EXISTS item_comments (
  comment_id  text PRIMARY KEY DEFAULT gen_random_uuid()::text,
  item_id     text NOT NULL,
  author_name text NOT NULL DEFAULT 'anonymous',
  text        text NOT NULL,
  "timestamp" timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT comment_text_is_not_empty CHECK (text <> '')
);
CREATE INDEX IF NOT EXISTS item_comments_by_item ON item_comments (item_id, "timestamp");

CREATE TABLE IF NOT EXISTS notifications (
  notification_id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
  user_id         text NOT NULL,
  text            text NOT NULL,
  read            boolean NOT NULL DEFAULT false,
  created_at      timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT notification_text_is_not_empty CHECK (text <> '')
);
CREATE INDEX IF NOT EXISTS notifications_by_user ON notifications (user_id, created_at);

INSERT INTO items (item_id, owner_id, title) VALUES
  ('42', '1', 'The answer, with comments'),
  ('43', '1', 'A second item of the same owner'),
  ('7',  '2', 'Somebody else''s item')
ON CONFLICT DO NOTHING;
