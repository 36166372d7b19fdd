import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/** Orders what is missing, by what this transaction reads: if that has changed, it fails. */
async function restock(client, article, wanted) {
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    const found = await client.query('SELECT quantity FROM stock WHERE article = $1', [article]);
    const quantity = wanted - found.rows[0].quantity;
    await client.query("SELECT refold.append_event($1, 'restocked', $2)", [article, { quantity }]);
    await client.query('COMMIT');
    return quantity;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  }
}

/** Does the work again, from its start, where another session was faster. */
async function retried(work, attempts = 5) {
  while (--attempts > 0) {
    try {
      return await work();
    } catch (error) {
      if (error.code !== '40001') throw error;
    }
  }
  return work();
}

async function rebuild(client, projection) {
  const started = await client.query('SELECT refold.start_rebuild($1) AS job', [projection]);
  const progress = 'SELECT phase, events_done, events_total FROM refold.rebuild_progress WHERE projection = $1';
  for (let now; (now = (await client.query(progress, [projection])).rows[0]); await sleep(100)) {
    console.log(`${now.phase}: ${now.events_done} of ${now.events_total} events`);
  }
  const outcome = 'SELECT state, error_message FROM refold.rebuild_jobs WHERE job_id = $1';
  const { state, error_message } = (await client.query(outcome, [started.rows[0].job])).rows[0];
  if (state !== 'done') throw new Error(`the rebuild is ${state}: ${error_message}`);
}

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
try {
  const ordered = await retried(() => restock(client, 'apple', 100));
  const stock = await client.query('SELECT quantity FROM stock WHERE article = $1', ['apple']);
  console.log(`apple: ${ordered} ordered, ${stock.rows[0].quantity} in stock`);
  await rebuild(client, 'stock');
  console.log('stock is rebuilt');
} finally {
  await client.end();
}
