CREATE EXTENSION refold;

-- A replay leads the handler's unqualified names to a copy. A handler that gets past it is caught, and nothing changes.
CREATE TABLE cart (cart_id text PRIMARY KEY, items int);
CREATE FUNCTION on_added(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO cart AS c VALUES (event.stream_id, 1) ON CONFLICT (cart_id) DO UPDATE SET items = c.items + 1;
END
$$;
SELECT refold.append_event('c-1', 'added', '{}') FROM generate_series(1, 2);
SELECT generation FROM refold.create_projection('cart', 'on_added(refold.event)', '{cart}');
CREATE VIEW cart_view AS SELECT * FROM cart;
CREATE FUNCTION helper(id text) RETURNS void LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
  UPDATE cart SET items = 100 WHERE cart_id = id;
END
$$;
CREATE FUNCTION atomic_helper(id text) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT items FROM cart WHERE cart_id = id; END;
CREATE FUNCTION on_added_dynamic(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('INSERT INTO %I.%I VALUES ($1, 9)', 'public', 'cart') USING event.stream_id || 'x';
END
$$;
CREATE FUNCTION on_added_view(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE cart_view SET items = 9;
END
$$;
CREATE FUNCTION on_added_helper(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM helper(event.stream_id);
END
$$;
CREATE FUNCTION on_added_reading(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO cart SELECT event.stream_id || event.position, atomic_helper(event.stream_id);
END
$$;
CREATE FUNCTION on_added_path(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('search_path', 'public', true);
  UPDATE cart SET items = 9;
END
$$;
CREATE FUNCTION on_added_caught(event refold.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'DELETE FROM public.' || 'cart';
EXCEPTION WHEN OTHERS THEN
  INSERT INTO cart VALUES (event.stream_id, 1) ON CONFLICT DO NOTHING;
END
$$;
SELECT refold.rebuild_projection('cart', 'on_added_dynamic(refold.event)');
\set SHOW_CONTEXT never
SELECT refold.rebuild_projection('cart', 'on_added_view(refold.event)');
SELECT refold.rebuild_projection('cart', 'on_added_helper(refold.event)');
SELECT refold.rebuild_projection('cart', 'on_added_reading(refold.event)');
SELECT refold.rebuild_projection('cart', 'on_added_path(refold.event)');
SELECT * FROM cart;
SELECT generation, handler FROM refold.projections;
SELECT * FROM refold.verify_projection('cart');
-- One that swallows the error has written its copy only.
SELECT generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('cart', 'on_added_caught(refold.event)');
SELECT * FROM cart;
