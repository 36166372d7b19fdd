-- An error while a warning is sent: here of the client's encoding, which has no letter of the projection's name; a cancel
-- that comes just then is one too. The session goes on working.
CREATE EXTENSION refold;
SET client_encoding = 'UTF8';

CREATE TABLE cart (cart_id text PRIMARY KEY, n int);
CREATE FUNCTION fold_cart(state cart, event refold.event) RETURNS cart LANGUAGE sql AS $$
  SELECT event.stream_id, coalesce(state.n, 0) + 1
$$;
SELECT generation FROM refold.create_projection(U&'cart \8eca', 'fold_cart(cart, refold.event)');
SELECT count(refold.append_event('c-' || n, 'added', '{}')) FROM generate_series(1, 600) AS n;

-- With the gate closed before, a rebuild of more than a few events warns.
SET client_encoding = 'LATIN1';
BEGIN;
SELECT refold.lock_gate();
SAVEPOINT before;
SELECT generation FROM refold.rebuild_projection(U&'cart \8eca');
ROLLBACK TO SAVEPOINT before;
SELECT stream_version FROM refold.append_event('c-1', 'added', '{}');
COMMIT;
SELECT stream_version FROM refold.append_event('c-1', 'added', '{}');
RESET client_encoding;
SELECT cart_id, n FROM cart WHERE n > 1;
SELECT * FROM refold.verify_projection(U&'cart \8eca');

DROP EXTENSION refold CASCADE;
DROP TABLE cart;
