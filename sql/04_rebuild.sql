-- Creating, rebuilding, verifying and dropping projections.

CREATE TYPE refold.rebuild_report AS (
  projection text,
  generation bigint,
  events_replayed bigint,
  events_under_gate bigint,
  rows_inserted bigint,
  rows_updated bigint,
  rows_deleted bigint,
  gate_attempts integer,
  gate_held interval,
  duration interval
);
COMMENT ON TYPE refold.rebuild_report IS 'what a rebuild did; gate_held is how long appends have waited when it returns';
COMMENT ON COLUMN refold.rebuild_report.projection IS 'the projection''s name';
COMMENT ON COLUMN refold.rebuild_report.generation IS 'its generation from now on';
COMMENT ON COLUMN refold.rebuild_report.events_replayed IS 'events that its handler has seen again';
COMMENT ON COLUMN refold.rebuild_report.events_under_gate IS 'how many of them while appends waited';
COMMENT ON COLUMN refold.rebuild_report.rows_inserted IS 'rows new in the live tables';
COMMENT ON COLUMN refold.rebuild_report.rows_updated IS 'rows changed in the live tables';
COMMENT ON COLUMN refold.rebuild_report.rows_deleted IS 'rows gone from the live tables; with a second unique key also those that changed';
COMMENT ON COLUMN refold.rebuild_report.gate_attempts IS 'how often the gate was asked for';
COMMENT ON COLUMN refold.rebuild_report.gate_held IS 'how long appends have waited so far; they wait until the commit';
COMMENT ON COLUMN refold.rebuild_report.duration IS 'from the call to the return';

CREATE FUNCTION refold.create_projection(
  name text, handler regprocedure, tables regclass[] DEFAULT NULL, event_types text[] DEFAULT NULL,
  key regprocedure DEFAULT NULL, serial boolean DEFAULT false, build boolean DEFAULT true
) RETURNS refold.rebuild_report LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_create_projection';
COMMENT ON FUNCTION refold.create_projection(text, regprocedure, regclass[], text[], regprocedure, boolean, boolean) IS
  'Creates a projection and builds its model from the log; without build, start_rebuild does. The handler is f(refold.event) or f(refold.event[]) RETURNS void, or the fold f(T, refold.event) RETURNS T over the table T.';

CREATE FUNCTION refold.rebuild_projection(name text, handler regprocedure DEFAULT NULL, key jsonb DEFAULT NULL)
RETURNS refold.rebuild_report LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_rebuild_projection';
COMMENT ON FUNCTION refold.rebuild_projection(text, regprocedure, jsonb) IS
  'Builds a projection''s model anew from the log, with a new handler if one is given, while appends go on; the model changes when the caller''s transaction commits. With a key (of a fold, as verify_projection shows it) it builds that row only.';

CREATE FUNCTION refold.verify_projection(
  name text, OUT relation regclass, OUT key jsonb, OUT live jsonb, OUT rebuilt jsonb
) RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_verify_projection';
COMMENT ON FUNCTION refold.verify_projection(text) IS
  'The rows in which the live model and a fresh fold of the log differ, both as one snapshot sees them; none: the model holds. Blocks nobody.';

CREATE FUNCTION refold.drop_projection(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_drop_projection';
COMMENT ON FUNCTION refold.drop_projection(text) IS 'Drops a projection; its tables and their rows stay.';

CREATE FUNCTION refold.lock_gate()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_lock_gate';
COMMENT ON FUNCTION refold.lock_gate() IS
  'Makes appends wait until this transaction ends, so that it can alter a projection''s tables and rebuild it.';

-- Parallel unsafe, and so is what calls it: a handler may write, which parallel mode forbids.
CREATE FUNCTION refold._fold_step(internal, anyelement, refold.event) RETURNS internal
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'refold_fold_step';
COMMENT ON FUNCTION refold._fold_step(internal, anyelement, refold.event) IS 'calls the fold that is being replayed';

CREATE FUNCTION refold._fold_result(internal, anyelement, refold.event) RETURNS anyelement
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'refold_fold_result';
COMMENT ON FUNCTION refold._fold_result(internal, anyelement, refold.event) IS 'the row that a replayed fold has come to';

CREATE AGGREGATE refold._fold(anyelement, refold.event) (
  SFUNC = refold._fold_step, STYPE = internal, FINALFUNC = refold._fold_result, FINALFUNC_EXTRA
);
COMMENT ON AGGREGATE refold._fold(anyelement, refold.event) IS 'the fold that is being replayed, from a first state over events in order';

-- A fold in parts, each of other streams: of a handler that is parallel safe. The handler is what takes the time.
CREATE FUNCTION refold._fold_part_step(internal, anyelement, refold.event, oid, text) RETURNS internal
  LANGUAGE c VOLATILE PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'refold_fold_part_step';
COMMENT ON FUNCTION refold._fold_part_step(internal, anyelement, refold.event, oid, text) IS
  'calls the fold that is being replayed, in a parallel worker too';

CREATE FUNCTION refold._fold_part_result(internal, anyelement, refold.event, oid, text) RETURNS anyelement
  LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'refold_fold_result';
COMMENT ON FUNCTION refold._fold_part_result(internal, anyelement, refold.event, oid, text) IS
  'the row that a replayed fold has come to';

CREATE AGGREGATE refold._fold_part(anyelement, refold.event, oid, text) (
  SFUNC = refold._fold_part_step, STYPE = internal, FINALFUNC = refold._fold_part_result, FINALFUNC_EXTRA, PARALLEL = SAFE
);
COMMENT ON AGGREGATE refold._fold_part(anyelement, refold.event, oid, text) IS
  'a part of the fold that is being replayed, by this handler of the projection with this name';

CREATE FUNCTION refold._count_part(bigint) RETURNS boolean
  LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'refold_count_part';
COMMENT ON FUNCTION refold._count_part(bigint) IS 'counts so many more events as replayed; true';

CREATE FUNCTION refold._event_step(refold.event) RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'refold_event_step';
COMMENT ON FUNCTION refold._event_step(refold.event) IS 'calls the per-event handler that is being replayed';

CREATE FUNCTION refold._fail_key(text) RETURNS boolean
  LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'refold_fail_key';
COMMENT ON FUNCTION refold._fail_key(text) IS 'raises the error of a fold that returned the row of another key';

CREATE FUNCTION refold._shadow_step(projection text, step text) RETURNS void
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_shadow_step';
COMMENT ON FUNCTION refold._shadow_step(text, text) IS
  'one step of a projection''s shadow, for tests: create, analyze, swap or drop';

CREATE FUNCTION refold._swap_storage(live regclass, shadow regclass) RETURNS void
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refold_swap_tables';
COMMENT ON FUNCTION refold._swap_storage(regclass, regclass) IS
  'exchanges heap, toast and indexes of two tables of the same definition, for tests: nothing else is checked';
