-- Nobody but the owner may do anything until it is granted; the two views show nothing of what users wrote.

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA refold FROM PUBLIC;

-- What the views, read_all and a replay call with the rights of whoever reads or owns: they tell a hash of pg_proc and
-- the last final position, which function has a signature and which cluster this is, and outside a replay the others only fail.
GRANT EXECUTE ON FUNCTION refold._fingerprint(oid), refold._function(text, oid), refold._cluster(), refold._final_position(), refold._fold_step(internal, anyelement, refold.event),
  refold._fold_result(internal, anyelement, refold.event), refold._fold(anyelement, refold.event),
  refold._fold_part_step(internal, anyelement, refold.event, oid, text),
  refold._fold_part_result(internal, anyelement, refold.event, oid, text),
  refold._fold_part(anyelement, refold.event, oid, text), refold._count_part(bigint),
  refold._event_step(refold.event), refold._fail_key(text) TO PUBLIC;

GRANT USAGE ON SCHEMA refold TO pg_monitor;
GRANT SELECT ON refold.projections, refold.rebuild_progress, refold.rebuild_jobs TO pg_monitor;

-- What a dump has of the store. Not the sequences: setval would set back those of a store that is in use; they are set by
-- the rows that are restored. A table that was dropped would be a number in the dump.
SELECT pg_catalog.pg_extension_config_dump('refold.event', '');
SELECT pg_catalog.pg_extension_config_dump('refold.projection', '');
SELECT pg_catalog.pg_extension_config_dump('refold.projection_table',
  'WHERE relation::pg_catalog.oid OPERATOR(pg_catalog.=) ANY (SELECT c.oid FROM pg_catalog.pg_class AS c)');
SELECT pg_catalog.pg_extension_config_dump('refold.serial_turn', '');
SELECT pg_catalog.pg_extension_config_dump('refold.skipped_event', '');
