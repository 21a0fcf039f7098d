// Drizzle over node-postgres and over postgres.js, as its guides set them up.

import { deepEqual, equal } from 'node:assert/strict';
import { count, eq, like, relations, sql } from 'drizzle-orm';
import { drizzle as overPg } from 'drizzle-orm/node-postgres';
import { migrate as migratePg } from 'drizzle-orm/node-postgres/migrator';
import { integer, pgTable, serial, text } from 'drizzle-orm/pg-core';
import { drizzle as overPostgres } from 'drizzle-orm/postgres-js';
import { migrate as migratePostgres } from 'drizzle-orm/postgres-js/migrator';
import { mkdir, writeFile } from 'node:fs/promises';
import pg from 'pg';
import postgres from 'postgres';
import { URL, range, refusal, run } from './check.mjs';

const users = pgTable('users', { id: serial().primaryKey(), email: text().notNull().unique(), age: integer() });
const posts = pgTable('posts', { id: serial().primaryKey(), title: text().notNull(), author: integer().references(() => users.id) });
const schema = {
  users,
  posts,
  ofUsers: relations(users, ({ many }) => ({ posts: many(posts) })),
  ofPosts: relations(posts, ({ one }) => ({ author: one(users, { fields: [posts.author], references: [users.id] }) })),
};

// As drizzle-kit writes it.
const FOLDER = 'drizzle';
const entry = { idx: 0, version: '7', when: 1, tag: '0000_first', breakpoints: true };
await mkdir(`${FOLDER}/meta`, { recursive: true });
await writeFile(`${FOLDER}/meta/_journal.json`, JSON.stringify({ version: '7', dialect: 'postgresql', entries: [entry] }));
await writeFile(
  `${FOLDER}/0000_first.sql`,
  'CREATE TABLE users (id serial PRIMARY KEY, email text NOT NULL UNIQUE, age integer);\n--> statement-breakpoint\n' +
    'CREATE TABLE posts (id serial PRIMARY KEY, title text NOT NULL, author integer REFERENCES users);',
);

// With prepared statements, which Supabase's own advice turns off, and without.
const drivers = {
  'node-postgres': () => {
    const pool = new pg.Pool({ connectionString: URL, max: 4 });
    return [overPg(pool, { schema }), migratePg, () => pool.end()];
  },
  'postgres.js': () => {
    const client = postgres(URL, { max: 4, onnotice: () => {} });
    return [overPostgres(client, { schema }), migratePostgres, () => client.end()];
  },
  'postgres.js without prepared statements': () => {
    const client = postgres(URL, { max: 4, prepare: false, onnotice: () => {} });
    return [overPostgres(client, { schema }), migratePostgres, () => client.end()];
  },
};

// A failed query is the driver's error, wrapped.
const sqlstate = async (promise) => (await refusal(promise)).cause?.code ?? refusal(promise);

async function exercise(db, x) {
  const [made] = await db.insert(users).values({ email: `${x}@one`, age: 7 }).returning();
  await db.insert(posts).values(range(3).map((i) => ({ title: `t${i}`, author: made.id })));
  const found = await db.query.users.findFirst({ where: eq(users.id, made.id), with: { posts: true } });
  deepEqual([found.email, found.age, found.posts.map(({ title }) => title)], [`${x}@one`, 7, ['t0', 't1', 't2']]);
  equal(await sqlstate(db.insert(users).values({ email: `${x}@one` })), '23505');

  const byAge = db.select().from(users).where(eq(users.age, sql.placeholder('age'))).prepare(`by_age_${x.replaceAll(/\W/g, '_')}`);
  for (const age of [7, 8, 7]) equal((await byAge.execute({ age })).length, age === 7 ? 1 : 0);

  await db.transaction(async (tx) => {
    await tx.insert(users).values({ email: `${x}@kept` });
    const undone = tx.transaction(async (inner) => {
      await inner.insert(users).values({ email: `${x}@undone` });
      inner.rollback();
    });
    await refusal(undone);
  });
  deepEqual(await db.select({ n: count() }).from(users).where(like(users.email, `${x}@%`)), [{ n: 2 }]);

  const all = await Promise.all(range(100).map((i) => db.execute(sql`SELECT ${i}::int AS n`)));
  deepEqual(all.map((one) => (one.rows ?? one)[0].n), range(100));
  await db.delete(posts);
  await db.delete(users);
}

const cases = Object.entries(drivers).map(([name, connect]) => [
  name,
  async () => {
    const [db, migrate, end] = connect();
    await migrate(db, { migrationsFolder: FOLDER });
    await migrate(db, { migrationsFolder: FOLDER });
    await exercise(db, name);
    await end();
  },
]);

await run(Object.fromEntries(cases));
