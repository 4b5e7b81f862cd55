// The most that PostgreSQL itself does of this work: no worker, no handler, no network; one backend
// moves queued events, a batch in a transaction, with one INSERT, one broadcast and one DELETE each.
import { queueEvents, settle } from "./spillway.mjs";

const PROCEDURE = `
CREATE TABLE ceiling_queue (seq bigint PRIMARY KEY, event_id bigint NOT NULL);
INSERT INTO ceiling_queue SELECT row_number() OVER (ORDER BY id), id FROM spillway.events;
CREATE TABLE ceiling_broadcasts (position bigint PRIMARY KEY, channel text NOT NULL, event_type text NOT NULL,
  data jsonb NOT NULL, event_id bigint, created_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX ON ceiling_broadcasts (channel, position);
CREATE TABLE ceiling_head (last bigint NOT NULL);
INSERT INTO ceiling_head VALUES (0);
CREATE PROCEDURE ceiling(batch int) LANGUAGE plpgsql AS $$
DECLARE upto bigint := 0; base bigint; taken bigint;
BEGIN
  LOOP
    WITH done AS (
      DELETE FROM ceiling_queue WHERE seq > upto AND seq <= upto + batch RETURNING seq, event_id),
    event AS MATERIALIZED (
      SELECT done.seq, e.id, e.payload FROM done CROSS JOIN LATERAL
        (SELECT id, payload FROM spillway.events WHERE id = done.event_id OFFSET 0) e),
    rows AS (
      INSERT INTO item_comments (comment_id, item_id, author_name, text, timestamp)
      SELECT r.comment_id, r.item_id, r.author_name, r.text, r.timestamp
      FROM event, jsonb_populate_record(NULL::item_comments, event.payload) r),
    head AS (UPDATE ceiling_head SET last = last + batch RETURNING last - batch AS base)
    INSERT INTO ceiling_broadcasts (position, channel, event_type, data, event_id)
    SELECT head.base + row_number() OVER (ORDER BY event.seq), 'CommentStream:item:' || (event.payload->>'item_id'),
           'CommentAdded', event.payload, event.id FROM event, head;
    GET DIAGNOSTICS taken = ROW_COUNT;
    COMMIT;
    EXIT WHEN taken = 0;
    upto := upto + batch;
  END LOOP;
END $$;`;

export async function sqlCeiling(bench, count) {
  const { postgres } = bench;
  await postgres.create("ceiling", bench.template);
  await queueEvents(postgres, "ceiling", count);
  await postgres.sql("ceiling", PROCEDURE);
  await settle(postgres, "ceiling");
  const { answer, each } = await postgres.measured("ceiling", () => postgres.sql("ceiling", `SELECT extract(epoch FROM clock_timestamp()) AS t \\gset
CALL ceiling(1000);
SELECT extract(epoch FROM clock_timestamp()) - :t;`));
  await postgres.drop("ceiling");
  return { value: count / Number(answer), ...each(count) };
}
