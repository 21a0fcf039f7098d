// node-postgres (pg), with its cursors, streams and COPY.

import { deepEqual, equal } from 'node:assert/strict';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import pg from 'pg';
import copy from 'pg-copy-streams';
import Cursor from 'pg-cursor';
import QueryStream from 'pg-query-stream';
import { MODE, URL, range, refusal, run, until } from './check.mjs';

async function connected(use, options = {}) {
  const client = new pg.Client({ connectionString: URL, ...options });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

async function pooled(max, use) {
  const pool = new pg.Pool({ connectionString: URL, max });
  try {
    return await use(pool);
  } finally {
    await pool.end();
  }
}

const value = async (client, ...query) => Object.values((await client.query(...query)).rows[0])[0];

async function twenty(query) {
  const numbers = range(20);
  deepEqual(await pooled(1, (pool) => Promise.all(numbers.map((i) => value(pool, query(i))))), numbers);
}

async function sleeping(client, mark) {
  const sql = "SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE $1";
  return (await value(client, sql, [`%${mark}%`])) === 1;
}

await run({
  'twenty at once, simple': () => twenty((i) => `SELECT ${i}`),
  'twenty at once, unnamed': () => twenty((i) => ({ text: 'SELECT $1::int', values: [i] })),
  'twenty at once, one name': () => twenty((i) => ({ name: 'one', text: 'SELECT $1::int', values: [i] })),
  'twenty at once, twenty names': () => twenty((i) => ({ name: `n${i}`, text: `SELECT ${i} + $1::int`, values: [0] })),

  'the same name with other texts in two clients': async () => {
    const ask = (text) => async (client) => {
      for (const i of range(5)) equal(await value(client, { name: 'same', text, values: [i] }), text.includes('*') ? i * 10 : i + 10);
    };
    await Promise.all([connected(ask('SELECT $1::int * 10')), connected(ask('SELECT $1::int + 10'))]);
  },

  'cursors, in a transaction and outside': () =>
    connected(async (client) => {
      for (const around of [['BEGIN', 'COMMIT'], []]) {
        if (around.length) await client.query(around[0]);
        const cursor = client.query(new Cursor('SELECT generate_series(1, $1::int) AS n', [25]));
        const sizes = [];
        for (let rows = await cursor.read(10); rows.length; rows = await cursor.read(10)) sizes.push(rows.length);
        await cursor.close();
        deepEqual(sizes, [10, 10, 5]);
        if (around.length) await client.query(around[1]);
      }
    }),

  'a cursor that is closed early': () =>
    connected(async (client) => {
      const cursor = client.query(new Cursor('SELECT generate_series(1, 1000000) AS n'));
      equal((await cursor.read(3)).length, 3);
      await cursor.close();
      equal(await value(client, 'SELECT 7'), 7);
    }),

  'a stream of rows': () =>
    connected(async (client) => {
      let sum = 0;
      for await (const row of client.query(new QueryStream('SELECT generate_series(1, 5000) AS n'))) sum += row.n;
      equal(sum, 12502500);
    }),

  'COPY both ways': () =>
    connected(async (client) => {
      await client.query('CREATE TABLE copied (a int, b text)');
      const rows = range(20000).map((i) => `${i}\ttext ${i}\n`);
      await pipeline(Readable.from(rows), client.query(copy.from('COPY copied FROM STDIN')));
      const back = [];
      const sink = new Writable({ write: (chunk, _, done) => (back.push(chunk), done()) });
      await pipeline(client.query(copy.to('COPY (SELECT * FROM copied ORDER BY a) TO STDOUT')), sink);
      equal(Buffer.concat(back).toString(), rows.join(''));
    }),

  'begin, savepoint, rollback': () =>
    connected(async (client) => {
      await client.query('CREATE TABLE saved (a int PRIMARY KEY)');
      await client.query('BEGIN');
      await client.query('INSERT INTO saved VALUES ($1)', [1]);
      await client.query('SAVEPOINT s');
      equal(await refusal(client.query('INSERT INTO saved VALUES ($1)', [1])), '23505');
      equal(await refusal(client.query('SELECT 1')), '25P02');
      await client.query('ROLLBACK TO s');
      await client.query('INSERT INTO saved VALUES ($1)', [2]);
      await client.query('COMMIT');
      await client.query('BEGIN');
      await client.query('INSERT INTO saved VALUES (3)');
      await client.query('ROLLBACK');
      equal(await value(client, 'SELECT array_agg(a ORDER BY a)::text FROM saved'), '{1,2}');
    }),

  'two hundred sessions': async () => {
    // In transaction mode all of them are there before the first one asks.
    const all = range(200);
    let arrived = 0;
    let go;
    const everybody = new Promise((resolve) => (go = resolve));
    const session = (i) =>
      connected(async (client) => {
        if (++arrived === all.length) go();
        if (MODE === 'transaction') await everybody;
        for (const text of ['SELECT $1::int', 'SELECT $1::int + 0']) equal(await value(client, { name: 'n', text: 'SELECT $1::int', values: [i] }), i, text);
        await client.query('BEGIN');
        equal(await value(client, 'SELECT $1::int', [i]), i);
        await client.query('COMMIT');
      });
    await Promise.all(all.map(session));
  },

  'what belongs to a session': () =>
    connected(
      async (client) => {
        equal(await value(client, 'SHOW application_name'), 'mine');
        await client.query("SET work_mem = '5MB'");
        await client.query('CREATE TEMP TABLE mine (a int)');
        await client.query('INSERT INTO mine VALUES (7)');
        equal(await value(client, 'SHOW work_mem'), '5MB');
        equal(await value(client, 'SELECT a FROM mine'), 7);
        equal(await value(client, 'SHOW statement_timeout'), '20s');
      },
      { application_name: 'mine', statement_timeout: 20000 },
    ),

  'listen and notify': () =>
    connected(async (client) => {
      const heard = new Promise((resolve) => client.on('notification', resolve));
      await client.query('LISTEN here');
      await connected((other) => other.query("NOTIFY here, 'hello'"));
      equal((await heard).payload, 'hello');
    }),

  'a large value there and back': () =>
    connected(async (client) => {
      const large = 'ü'.repeat(2 << 20);
      equal((await value(client, 'SELECT $1::text', [large])) === large, true);
    }),

  cancel: () =>
    connected(async (client) => {
      await connected(async (watch) => {
        const query = new pg.Query('SELECT pg_sleep(1000) AS node_cancel');
        const ended = new Promise((_, reject) => query.on('error', reject));
        client.query(query);
        await until(() => sleeping(watch, 'pg_sleep(1000) AS node' + '_cancel'));
        new pg.Client({ connectionString: URL }).cancel(client, query);
        equal(await refusal(ended), '57014');
      });
      equal(await value(client, 'SELECT 7'), 7);
    }),
});
