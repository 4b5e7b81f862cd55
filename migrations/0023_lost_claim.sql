-- A batch's statements and its COMMIT are sent together, so what must not be committed has to fail.
-- The type is that of what stands in its place when all is well.
CREATE FUNCTION spillway.refuse_lost_claim(present bigint, claimed bigint) RETURNS xid8
LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'only % of % claimed events are still in the queue: did somebody delete from it?',
    present, claimed USING ERRCODE = 'XX000';
END $$;
