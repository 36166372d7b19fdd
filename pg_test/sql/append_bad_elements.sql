CREATE EXTENSION refold;

-- Malformed events: 22023, with the place of the fault, in words that name no Rust.
CREATE FUNCTION fault(events jsonb, OUT code text, OUT place text, OUT jargon boolean) LANGUAGE plpgsql AS $$
DECLARE
  detail text;
BEGIN
  PERFORM refold.append_events('s', events);
  code := 'accepted';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
  detail := concat_ws(' ', detail, SQLERRM);
  place := substring(detail FROM '(events(?:\[\d+\](?:\.\w+)?)?)');
  jargon := detail ~ 'struct|Element|sequence|\mmap\M';
END
$$;
SELECT e AS events, f.* FROM unnest(ARRAY[
  'null', '1', '"text"', '{}', '[]', '[1]', '[null]', '[[]]', '[["t", 1, null, null]]', '[{}]',
  '[{"type": "t"}]',
  '[{"data": 1}]',
  '[{"type": "t", "data": 1}, {"data": 1}]',
  '[{"type": "t", "data": 1, "metadta": {}}]',
  '[{"type": "t", "data": 1}, {"type": "t", "data": 1, "Type": "t"}]',
  '[{"type": 1, "data": 1}]',
  '[{"type": null, "data": 1}]',
  '[{"type": "t", "data": 1}, {"type": "", "data": 1}]',
  '[{"type": "t", "data": 1, "event_id": 7}]',
  '[{"type": "t", "data": 1, "event_id": "no uuid"}]',
  '[{"type": "t", "data": 1, "event_id": ""}]',
  '[{"type": "t", "data": 1}, {"type": "t", "data": 1, "stream_version": 2}]']) AS e CROSS JOIN LATERAL fault(e::jsonb) AS f;
SELECT (fault(jsonb_build_array('{"type": "t", "data": 1}'::jsonb, jsonb_build_object('type', repeat('t', 257), 'data', 1)))).*;
SELECT (fault(jsonb_build_array('{"type": "t", "data": 1}'::jsonb, jsonb_build_object('type', 't', 'data', repeat('x', 16 * 1024 * 1024))))).*;
SELECT count(*) FROM refold.event;
-- null for what may be left out leaves it out, as JSON libraries write it.
SELECT refold.append_events('s', '[{"type": "t", "data": null, "metadata": null, "event_id": null}]');
SELECT data, metadata, event_id IS NOT NULL AS has_id FROM refold.event;
