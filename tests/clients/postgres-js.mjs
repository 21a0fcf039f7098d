// postgres.js: it pipelines by itself, prepares by itself, and learns types with Flush.

import { deepEqual, equal } from 'node:assert/strict';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import postgres from 'postgres';
import { MODE, URL, range, refusal, run, until } from './check.mjs';

const plain = { max: 1, onnotice: () => {} };

async function using(options, use) {
  const sql = postgres(URL, { ...plain, ...options });
  try {
    return await use(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

// Every case with prepared statements and without.
const both = (use) => async () => {
  for (const prepare of [true, false]) await using({ prepare }, (sql) => use(sql, prepare));
};

const numbers = (rows) => rows.map((row) => row.n);

await run({
  'twenty at once': both(async (sql) => {
    const all = await Promise.all(range(20).map((i) => sql`SELECT ${i}::int AS n`));
    deepEqual(all.flatMap(numbers), range(20));
  }),

  'twenty different ones at once': both(async (sql) => {
    const all = await Promise.all(range(20).map((i) => sql.unsafe(`SELECT $1::int + ${i} AS n`, [0])));
    deepEqual(all.flatMap(numbers), range(20));
  }),

  'an error in the middle of a pipeline': both(async (sql) => {
    const ask = (i) => (i === 7 ? sql`SELECT ${i}::int / 0 AS n` : sql`SELECT ${i}::int AS n`);
    const all = await Promise.allSettled(range(20).map(ask));
    deepEqual(all.map((one, i) => one.value?.[0].n ?? one.reason.code), range(20).map((i) => (i === 7 ? '22012' : i)));
  }),

  'a statement that does not parse': both(async (sql) => {
    equal(await refusal(sql`SELEC ${1}`), '42601');
    deepEqual(numbers(await sql`SELECT ${1}::int AS n`), [1]);
  }),

  'types are learnt': both(async (sql) => {
    await sql`CREATE TABLE IF NOT EXISTS typed (id int PRIMARY KEY, at timestamptz, doc jsonb, tags text[])`;
    const at = new Date('2020-02-02T02:02:02Z');
    await sql`INSERT INTO typed ${sql({ id: 1, at, doc: { a: [1, null] }, tags: ['x', 'ü'] })} ON CONFLICT DO NOTHING`;
    const [row] = await sql`SELECT * FROM typed WHERE id = ${1} AND tags @> ${['x']}`;
    deepEqual([row.at, row.doc, row.tags], [at, { a: [1, null] }, ['x', 'ü']]);
  }),

  'several statements in one': both(async (sql) => {
    const all = await sql.unsafe('SELECT 1 AS n; SELECT 2 AS n; SELECT 3 AS n').simple();
    deepEqual(all.flatMap(numbers), [1, 2, 3]);
  }),

  cursors: both(async (sql) => {
    const sizes = [];
    await sql`SELECT generate_series(1, ${25}::int) AS n`.cursor(10, (rows) => void sizes.push(rows.length));
    for await (const rows of sql`SELECT generate_series(1, 25) AS n`.cursor(10)) {
      sizes.push(rows.length);
      break;
    }
    let sum = 0;
    await sql`SELECT generate_series(1, 1000) AS n`.forEach((row) => (sum += row.n));
    deepEqual([sizes, sum], [[10, 10, 5, 10], 500500]);
  }),

  'COPY both ways': both(async (sql) => {
    await sql`DROP TABLE IF EXISTS copied`;
    await sql`CREATE TABLE copied (a int, b text)`;
    const rows = range(20000).map((i) => `${i}\ttext ${i}\n`);
    await pipeline(Readable.from(rows), await sql`COPY copied FROM STDIN`.writable());
    const back = [];
    for await (const chunk of await sql`COPY (SELECT * FROM copied ORDER BY a) TO STDOUT`.readable()) back.push(chunk);
    equal(Buffer.concat(back).toString(), rows.join(''));
  }),

  'begin, savepoint, rollback': both(async (sql, prepare) => {
    const table = sql(prepare ? 'saved_p' : 'saved_s');
    await sql`CREATE TABLE ${table} (a int PRIMARY KEY)`;
    await sql.begin(async (tx) => {
      await tx`INSERT INTO ${table} VALUES (1)`;
      equal(await refusal(tx.savepoint((inner) => inner`INSERT INTO ${table} VALUES (1)`)), '23505');
      await tx`INSERT INTO ${table} VALUES (2)`;
    });
    const stopped = sql.begin(async (tx) => {
      await tx`INSERT INTO ${table} VALUES (3)`;
      throw new Error('no');
    });
    equal((await refusal(stopped)).message, 'no');
    deepEqual(await sql.begin((tx) => [tx`SELECT 1 AS n`, tx`SELECT count(*)::int AS n FROM ${table}`]).then((all) => all.flatMap(numbers)), [1, 2]);
  }),

  'a reserved connection': () =>
    using({ max: 3 }, async (sql) => {
      const one = await sql.reserve();
      await one`SET work_mem = '5MB'`;
      await one`CREATE TEMP TABLE mine (a int)`;
      await one`INSERT INTO mine VALUES (7)`;
      deepEqual([await one`SELECT a FROM mine`, await one`SHOW work_mem`].flat(), [{ a: 7 }, { work_mem: '5MB' }]);
      one.release();
    }),

  'listen and notify': () =>
    using({}, async (sql) => {
      let hear;
      const heard = new Promise((resolve) => (hear = resolve));
      const { unlisten } = await sql.listen('here', hear);
      await sql.notify('here', 'hello');
      equal(await heard, 'hello');
      await unlisten();
    }),

  'two hundred sessions': async () => {
    // In transaction mode all of them are there before the first one asks again.
    const sessions = range(200).map(() => postgres(URL, plain));
    const ask = async (sql, i) => deepEqual(numbers(await sql`SELECT ${i}::int AS n`), [i]);
    if (MODE === 'transaction') {
      for (const _ of range(3)) await Promise.all(sessions.map(ask));
      await Promise.all(sessions.map((sql) => sql.end()));
    } else {
      await Promise.all(sessions.map((sql, i) => ask(sql, i).then(() => sql.end())));
    }
  },

  cancel: both(async (sql, prepare) => {
    const mark = `js_cancel_${prepare}`;
    const query = sql.unsafe(`SELECT pg_sleep(1000) AS ${mark}`).execute();
    const ended = refusal(query);
    await using({}, (watch) =>
      until(async () => {
        const seen = await watch`SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE ${`%AS ${mark}%`}`;
        return seen.length === 1;
      }),
    );
    query.cancel();
    equal(await ended, '57014');
    deepEqual(numbers(await sql`SELECT 7 AS n`), [7]);
  }),
});
