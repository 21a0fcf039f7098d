// Kysely over node-postgres, with its migrator.

import { deepEqual, equal, rejects } from 'node:assert/strict';
import { Kysely, Migrator, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import Cursor from 'pg-cursor';
import { URL, range, run } from './check.mjs';

const db = new Kysely({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: URL, max: 4 }), cursor: Cursor }) });

const first = {
  up: (db) =>
    db.schema
      .createTable('person')
      .addColumn('id', 'serial', (column) => column.primaryKey())
      .addColumn('name', 'text', (column) => column.notNull().unique())
      .execute(),
  down: (db) => db.schema.dropTable('person').execute(),
};
const provider = { getMigrations: async () => ({ first }) };
const migrator = () => new Migrator({ db, provider });
const names = async () => (await db.selectFrom('person').select('name').orderBy('id').execute()).map(({ name }) => name);
const add = (db, name) => db.insertInto('person').values({ name }).returning('id').executeTakeFirstOrThrow();

await run({
  'migrations, two runs at once': async () => {
    const done = await Promise.all([migrator().migrateToLatest(), migrator().migrateToLatest()]);
    deepEqual(done.map(({ error }) => error), [undefined, undefined]);
    deepEqual(done.flatMap(({ results }) => results.map(({ status }) => status)), ['Success']);
    deepEqual((await migrator().migrateDown()).results.map(({ status }) => status), ['Success']);
    await migrator().migrateToLatest();
  },

  'insert, select, update, delete': async () => {
    const { id } = await add(db, 'ü');
    equal((await db.selectFrom('person').selectAll().where('id', '=', id).executeTakeFirst()).name, 'ü');
    await db.updateTable('person').set({ name: 'u' }).where('id', '=', id).execute();
    deepEqual(await names(), ['u']);
    await rejects(add(db, 'u'), { code: '23505' });
    equal((await db.deleteFrom('person').executeTakeFirst()).numDeletedRows, 1n);
  },

  transactions: async () => {
    await db.transaction().setIsolationLevel('serializable').execute((tx) => add(tx, 'kept'));
    await rejects(db.transaction().execute((tx) => add(tx, 'undone').then(() => add(tx, 'kept'))), { code: '23505' });
    const tx = await db.startTransaction().execute();
    const saved = await tx.savepoint('s').execute();
    await add(saved, 'lost');
    await (await saved.rollbackToSavepoint('s').execute()).commit().execute();
    deepEqual(await names(), ['kept']);
  },

  'a stream of rows': async () => {
    let sum = 0;
    for await (const { n } of db.selectFrom(sql`generate_series(1, 1000)`.as('n')).select(sql`n`.as('n')).stream(100)) sum += n;
    equal(sum, 500500);
  },

  'a hundred at once': async () => {
    const all = await Promise.all(range(100).map((i) => sql`SELECT ${i}::int AS n`.execute(db)));
    deepEqual(all.map(({ rows }) => rows[0].n), range(100));
  },

  'the end': () => db.destroy(),
});
