-- pg_upgrade keeps tables and jobs, and gives functions other OIDs: another cluster's identifier stands for it here.
CREATE EXTENSION refold;
CREATE TABLE cart(id text PRIMARY KEY, n int); CREATE TABLE c2(id text PRIMARY KEY, n int);
CREATE FUNCTION f(s cart, e refold.event) returns cart language sql as 'SELECT row((e).stream_id, coalesce((s).n,0)+1)::cart';
CREATE FUNCTION f2(s cart, e refold.event) returns cart language sql as 'SELECT row((e).stream_id, coalesce((s).n,0)+2)::cart';
CREATE FUNCTION g(s c2, e refold.event) returns c2 language sql as 'SELECT row((e).stream_id, coalesce((s).n,0)+1)::c2';
SELECT refold.append_event('a','b','1');
SELECT generation FROM refold.create_projection('cart','f(cart, refold.event)');
SELECT generation FROM refold.create_projection('c2','g(c2, refold.event)');
CALL refold.rebuild_projection_concurrently('cart','f2(cart, refold.event)', grace => '1 hour');
BEGIN; SELECT refold.start_rebuild('c2'); select refold.pause_rebuild('c2'); COMMIT;
SELECT projection, state, phase FROM refold.rebuild_jobs ORDER BY 1;

UPDATE refold.installation SET opened_on = 1;
\c

-- Appends go on; a job's handler is not to be told from the functions that are here: it goes no further.
SELECT name, state FROM refold.projections ORDER BY 1;
SELECT refold.append_event('a','b','1');
SELECT projection, state, phase, error_sqlstate, error_message, mirror_failures FROM refold.rebuild_jobs ORDER BY 1;
SELECT refold.resume_rebuild('c2');
SELECT refold.cancel_rebuild('c2');
SELECT refold.rollback_projection('cart');
SELECT refold.finish_rebuild('cart');
TABLE cart;
TABLE c2;
SELECT projection, state, phase FROM refold.rebuild_jobs ORDER BY 1;
SELECT refold.append_event('a','b','1');
SELECT * FROM refold.verify_projection('cart'); select * FROM refold.verify_projection('c2');
CALL refold.rebuild_projection_concurrently('c2');
SELECT name, state FROM refold.projections ORDER BY 1;
