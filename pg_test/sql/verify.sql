CREATE EXTENSION refold;
CREATE TABLE customer (customer_id int PRIMARY KEY, name text);
CREATE TABLE invoice (invoice_id text, line int, amount numeric(8,2), customer_id int REFERENCES customer,
  PRIMARY KEY (invoice_id, line));
CREATE FUNCTION on_sale(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO customer SELECT DISTINCT (e.data ->> 'customer')::int, 'c' || (e.data ->> 'customer') FROM unnest(events) AS e
    ON CONFLICT DO NOTHING;
  INSERT INTO invoice SELECT e.stream_id, e.stream_version, (e.data ->> 'amount')::numeric, (e.data ->> 'customer')::int
    FROM unnest(events) AS e;
$$;
SELECT generation FROM refold.create_projection('sales', 'on_sale(refold.event[])', '{customer,invoice}');
-- An empty log and empty tables are right.
SELECT * FROM refold.verify_projection('sales');
SELECT (refold.append_event('i-' || n % 2, 'sold', jsonb_build_object('customer', n % 3, 'amount', n))).position
  FROM generate_series(1, 4) AS n;
SELECT * FROM refold.verify_projection('sales');

-- Differing, missing and surplus rows, of each table.
UPDATE customer SET name = NULL WHERE customer_id = 1;
UPDATE invoice SET amount = 1.01 WHERE invoice_id = 'i-1' AND line = 1;
DELETE FROM invoice WHERE invoice_id = 'i-0' AND line = 2;
INSERT INTO invoice VALUES ('i-9', 1, 9, 1);
INSERT INTO customer VALUES (7, 'seven');
SELECT * FROM refold.verify_projection('sales') ORDER BY relation::text, key;
-- It changes nothing.
SELECT count(*) FROM refold.verify_projection('sales');
SELECT generation, state FROM refold.projections;

-- Any isolation level, in a transaction that has changed the model itself, and one that appends.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM refold.verify_projection('sales');
DELETE FROM customer WHERE customer_id = 7;
SELECT relation, key FROM refold.verify_projection('sales') ORDER BY relation::text, key;
SELECT (refold.append_event('i-5', 'sold', '{"customer": 5, "amount": 5}')).position;
SELECT relation, key FROM refold.verify_projection('sales') ORDER BY relation::text, key;
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM refold.verify_projection('sales');
COMMIT;
BEGIN;
SELECT generation, rows_inserted, rows_updated, rows_deleted FROM refold.rebuild_projection('sales');
SELECT * FROM refold.verify_projection('sales');
COMMIT;
SELECT * FROM refold.verify_projection('sales');

-- After the handler was replaced it compares with what the model would be.
CREATE OR REPLACE FUNCTION on_sale(events refold.event[]) RETURNS void LANGUAGE sql AS $$
  INSERT INTO customer SELECT DISTINCT (e.data ->> 'customer')::int, 'C' || (e.data ->> 'customer') FROM unnest(events) AS e
    ON CONFLICT DO NOTHING;
$$;
SELECT * FROM refold.verify_projection('sales') ORDER BY relation::text, key;

-- As part of a larger query.
SELECT relation, count(*) FILTER (WHERE live IS NULL) AS missing, count(*) FILTER (WHERE rebuilt IS NULL) AS surplus,
    count(*) FILTER (WHERE live <> rebuilt) AS differing
  FROM refold.verify_projection('sales') GROUP BY relation ORDER BY relation::text;
SELECT p.name, (SELECT count(*) FROM refold.verify_projection(p.name)) AS wrong FROM refold.projections AS p;
SELECT refold.verify_projection('sales') IS NOT NULL AS row FROM generate_series(1, 1);
SELECT nspname FROM pg_namespace WHERE nspname LIKE 'refold_copy%';
