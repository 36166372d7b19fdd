CREATE EXTENSION refold;

-- Commands that are no queries get past the copy too: TRUNCATE, ALTER TABLE.
CREATE TABLE cart (cart_id text PRIMARY KEY, items int);
CREATE FUNCTION on_added(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO cart AS c VALUES (event.stream_id, 1) ON CONFLICT (cart_id) DO UPDATE SET items = c.items + 1;
END
$$;
SELECT refold.append_event('c-1', 'added', '{}') FROM generate_series(1, 2);
SELECT generation FROM refold.create_projection('cart', 'on_added(refold.event)', '{cart}');
CREATE FUNCTION on_added_truncate(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'TRUNCATE public.' || 'cart';
END
$$;
CREATE FUNCTION on_added_alter(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'ALTER TABLE public.' || 'cart ALTER items SET DEFAULT 0';
END
$$;
DO $$
BEGIN
  PERFORM refold.rebuild_projection('cart', 'on_added_truncate(refold.event)');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RAISE NOTICE 'refused';
END
$$;
DO $$
BEGIN
  PERFORM refold.rebuild_projection('cart', 'on_added_alter(refold.event)');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RAISE NOTICE 'refused';
END
$$;
SELECT * FROM cart;
SELECT generation, handler FROM refold.projections;

-- A replay that only verifies least of all.
SELECT refold.drop_projection('cart');
CREATE TABLE page (id text PRIMARY KEY);
CREATE FUNCTION on_page(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF event.event_type = 'wiped' THEN
    EXECUTE 'TRUNCATE public.' || 'page';
  ELSE
    INSERT INTO page VALUES (event.data ->> 'page') ON CONFLICT DO NOTHING;
  END IF;
END
$$;
SELECT generation FROM refold.create_projection('page', 'on_page(refold.event)', '{page}', '{wiped,written}');
SELECT refold.append_event('p', 'written', '{"page": "a"}');
SELECT refold.append_event('p', 'wiped', '{}');
SELECT refold.append_event('p', 'written', '{"page": "b"}');
SELECT * FROM page;
DO $$
BEGIN
  PERFORM refold.verify_projection('page');
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RAISE NOTICE 'refused';
END
$$;
SELECT * FROM page;
