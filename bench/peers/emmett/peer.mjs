// Emmett as its users drive it: its own client keeps the models inline and rebuilds them. The first argument says what
// to do, the second is JSON; the answer is JSON on the standard output. PGHOST and its like say where the database is.

import { sql } from '@event-driven-io/dumbo';
import { projections } from '@event-driven-io/emmett';
import {
  getPostgreSQLEventStore,
  pongoSingleStreamProjection,
  postgreSQLRawBatchSQLProjection,
  postgreSQLRawSQLProjection,
  rebuildPostgreSQLProjections,
} from '@event-driven-io/emmett-postgresql';

const { PGHOST, PGPORT, PGUSER, PGDATABASE } = process.env;
const database = `postgresql://${PGUSER}@localhost:${PGPORT}/${PGDATABASE}?host=${encodeURIComponent(PGHOST)}`;
const TAKEN = 'item_added';
const OTHER = 'cart_viewed';

function projection(kind, number, type, version = 1) {
  const name = `cart_${number}`;
  const total = ({ quantity, price }) => quantity * price * version;
  if (kind === 'fold') {
    return pongoSingleStreamProjection({
      collectionName: name,
      canHandle: [type],
      evolve: (cart, { data }) => ({
        ...cart,
        items: (cart?.items ?? 0) + data.quantity,
        total: (cart?.total ?? 0) + total(data),
      }),
    });
  }
  const upsert = ({ data, metadata }) =>
    sql(
      `INSERT INTO %I AS c VALUES (%L, %L, %L) ON CONFLICT (cart_id)
       DO UPDATE SET items = c.items + excluded.items, total = c.total + excluded.total`,
      name,
      metadata.streamName,
      data.quantity,
      total(data),
    );
  const definition =
    kind === 'per_event'
      ? postgreSQLRawSQLProjection({ name, canHandle: [type], evolve: upsert })
      : postgreSQLRawBatchSQLProjection({ name, canHandle: [type], evolve: (events) => events.map(upsert) });
  const truncate = ({ execute }) => execute.command(sql('TRUNCATE %I', name));
  return { ...definition, truncate };
}

async function migrate() {
  const store = getPostgreSQLEventStore(database);
  await store.schema.migrate();
  await store.close();
}

// Appends these events, each to its stream.
async function write(events) {
  const store = getPostgreSQLEventStore(database);
  for (const { stream, type, data, metadata } of events) {
    await store.appendToStream(stream, [{ type, data, metadata }]);
  }
  await store.close();
}

// Appends one event a call, with inline projections; each round has streams of its own.
async function append({ round, clients, kind, count, taking, warmUp, time }) {
  const models = Array.from({ length: count }, (_, n) => projection(kind, n + 1, n < taking ? TAKEN : OTHER));
  const store = getPostgreSQLEventStore(database, { projections: projections.inline(models) });
  await store.schema.migrate();
  const start = performance.now();
  const runs = Array.from({ length: clients }, async (_, client) => {
    const run = { events: 0, micros: [], seconds: 0 };
    let before = performance.now();
    let measuredFrom;
    // At least one, however long the first takes.
    for (let made = 1; run.micros.length === 0 || before - start < warmUp + time; made += 1) {
      const data = { sku: `sku-${made % 500}`, quantity: (made % 3) + 1, price: 2.25 };
      await store.appendToStream(`cart-${round}x${client}x${made % 1000}`, [{ type: TAKEN, data }]);
      const after = performance.now();
      run.events += 1;
      if (before - start >= warmUp) {
        measuredFrom ??= before;
        run.micros.push(Math.round((after - before) * 1000));
      }
      before = after;
    }
    run.seconds = (before - (measuredFrom ?? before)) / 1000;
    return run;
  });
  const answer = await Promise.all(runs);
  await store.close();
  return answer;
}

async function rebuild({ kind, version }) {
  const model = projection(kind, 1, TAKEN, version);
  const started = performance.now();
  // Without startFrom a second rebuild goes on where the first ended, on the table that it has emptied.
  const projections = [{ projection: model, startFrom: 'BEGINNING' }];
  const consumer = rebuildPostgreSQLProjections({ connectionString: database, projections });
  await consumer.start();
  const seconds = (performance.now() - started) / 1000;
  await consumer.close();
  return { seconds };
}

const [task, input] = process.argv.slice(2);
// A library that prints must not spoil the answer.
console.log = console.info = console.warn = console.error;
const answer = await { migrate, write, append, rebuild }[task](JSON.parse(input ?? 'null'));
process.stdout.write(JSON.stringify(answer ?? null));
