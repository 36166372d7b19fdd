CREATE EXTENSION refold;

-- What can be set, to what, and that a misspelt name is told.
SELECT refold.append_event('s', 't', '{}') IS NOT NULL AS loaded;
SELECT name, setting, unit, context, vartype, min_val, max_val, short_desc, extra_desc
  FROM pg_settings WHERE name LIKE 'refold.%' ORDER BY name;
-- Each version has words of its own for the range.
DO $$ BEGIN SET refold.gate_timeout = '0ms'; EXCEPTION WHEN invalid_parameter_value THEN RAISE NOTICE 'outside the range'; END $$;
SET refold.gate_attempts = 0;
SET refold.gate_tiemout = '25ms';
SET refold.idle_gate_timeout = '1min';
SHOW refold.idle_gate_timeout;
