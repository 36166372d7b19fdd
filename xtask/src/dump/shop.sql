-- A shop whose dump is not easy: every kind of handler, a key, a serial projection, event types, a skipped event, schemas
-- and names that need quotes, another owner, a function of a third role, gaps in the positions and in the projections' numbers, odd JSON.

CREATE EXTENSION refold;
CREATE SCHEMA shop AUTHORIZATION "Shop Owner";
CREATE SCHEMA "Odd ""Schema""" AUTHORIZATION "Shop Owner";
GRANT USAGE ON SCHEMA refold TO "Shop Owner", shop_app;
GRANT SELECT ON refold.event TO "Shop Owner";
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA refold TO "Shop Owner";
GRANT EXECUTE ON FUNCTION refold.append_event, refold.append_events, refold.read_all TO shop_app;
GRANT SELECT ON refold.event TO shop_app;

SET ROLE "Shop Owner";
SET search_path = shop;

CREATE TABLE "Cart" (cart_id text PRIMARY KEY, items bigint NOT NULL, last_data jsonb, last_type text,
                     double bigint GENERATED ALWAYS AS (2 * items) STORED);
CREATE FUNCTION "fold Cart"(state "Cart", event refold.event) RETURNS "Cart" LANGUAGE plpgsql AS $$
BEGIN
  RETURN ROW(event.stream_id, coalesce(state.items, 0) + 1, event.data, event.event_type, NULL)::"Cart";
END $$;

CREATE TABLE "Odd ""Schema"""."Sales" (sku text PRIMARY KEY, sold numeric NOT NULL);
CREATE INDEX ON "Odd ""Schema"""."Sales" (sold);
CREATE FUNCTION "Odd ""Schema"""."fold's Sales"(state "Odd ""Schema"""."Sales", event refold.event)
RETURNS "Odd ""Schema"""."Sales" LANGUAGE sql RETURN
  ROW((event).data->>'sku', coalesce((state).sold, 0) + ((event).data->>'n')::numeric)::"Odd ""Schema"""."Sales";
CREATE FUNCTION "Odd ""Schema""".sku_of(event refold.event) RETURNS text LANGUAGE sql IMMUTABLE RETURN (event).data->>'sku';

CREATE TABLE journal (n bigint PRIMARY KEY, entry text NOT NULL);
CREATE FUNCTION note(event refold.event) RETURNS void LANGUAGE sql AS $$
  INSERT INTO journal SELECT coalesce(max(j.n), 0) + 1, format('%s@%s', event.stream_id, event.stream_version) FROM journal AS j
$$;

CREATE TABLE tally (event_type text PRIMARY KEY, n bigint NOT NULL);
CREATE FUNCTION add_tally(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tally AS t SELECT e.event_type, count(*) FROM unnest(events) AS e GROUP BY 1
  ON CONFLICT (event_type) DO UPDATE SET n = t.n + excluded.n
$$;

SELECT refold.create_projection('to be dropped', '"fold Cart"("Cart", refold.event)');
SELECT refold.drop_projection('to be dropped');
SELECT refold.create_projection('Cart', '"fold Cart"("Cart", refold.event)');
SELECT refold.create_projection('sales of "all"', '"Odd ""Schema"""."fold''s Sales"("Odd ""Schema"""."Sales", refold.event)', event_types => '{sold,returned}',
                                key => '"Odd ""Schema""".sku_of(refold.event)');
SELECT refold.create_projection('journal', 'note(refold.event)', '{journal}', serial => true);
SELECT refold.create_projection('tally', 'add_tally(refold.event[])', '{tally}', event_types => '{sold,"odd, \"type\""}');
RESET ROLE;
-- Of a member of the owner's role.
ALTER FUNCTION shop.note OWNER TO shop_dev;

SELECT refold.append_events(format('cart-%s', s), (
  SELECT jsonb_agg(jsonb_build_object('type', (ARRAY['sold', 'returned', 'looked at'])[1 + (n + s) % 3],
                                      'data', jsonb_build_object('sku', format('sku-%s', (n * s) % 7), 'n', n)))
    FROM generate_series(1, 20) AS n)) FROM generate_series(1, 20) AS s;
DO $do$
BEGIN
  FOR i IN 1..10 LOOP
    BEGIN
      PERFORM refold.append_event('never', 'sold', '{"sku": "never", "n": 1}');
      RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
    END;
    PERFORM refold.append_event('odd', 'odd, "type"', data, '{"by": "x\\y\nz"}') FROM (VALUES
      (jsonb 'null'), ('true'), ('""'), ('"\\N"'), ('"\\."'), ('[]'), ('{"": {"": []}}'), ('1e300'),
      ('-0.00000000000000000000000000000000000000001'), ('123456789012345678901234567890.10'),
      ('"tab\tnew\nline\\ \" '' $$ \u00e4\ud83d\ude00\u0001"'), ('{"a\tb": "\b\f\r"}')) AS o (data);
  END LOOP;
END $do$;
SELECT refold.append_event(E'stream with\nlines, \\ and ''quotes"', 'sold', '{"sku": "\\N", "n": 0.50}');

SET ROLE "Shop Owner";
SELECT refold.skip_event('journal', 3, 'it''s not true');
SELECT refold.rebuild_projection('journal');
SELECT refold.rebuild_projection('Cart');
RESET ROLE;
DO $$
BEGIN
  PERFORM refold.append_event('never', 'sold', '{"sku": "never", "n": 1}');
  RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
END $$;
RESET search_path;
