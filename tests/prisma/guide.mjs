// Supabase's guide for Prisma, step by step and word for word, with `localhost` as the host.

import { deepEqual, equal, match, rejects } from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { appendFile, cp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { run } from './check.mjs';

const { SESSION_PORT, TRANSACTION_PORT, SUPERUSER_PASSWORD } = process.env;
const REF = 'abcdefghijklmnopqrst';
const PASSWORD = 'custom_password';
const project = resolve('hello-prisma');
const bin = resolve('node_modules/.bin');

const url = (port, user, password, database = 'postgres') => `postgres://${user}.${REF}:${password}@localhost:${port}/${database}`;
const DATABASE_URL = `${url(TRANSACTION_PORT, 'prisma', PASSWORD)}?pgbouncer=true`;
const DIRECT_URL = url(SESSION_PORT, 'prisma', PASSWORD);
const inDatabase = (name) => ({ DIRECT_URL: url(SESSION_PORT, 'prisma', PASSWORD, name) });

const ROLE = `
  -- Create custom user
  create user "prisma" with password '${PASSWORD}' bypassrls createdb;

  -- extend prisma's privileges to postgres (necessary to view changes in Dashboard)
  grant "prisma" to "postgres";

  -- Grant it necessary permissions over the relevant schemas (public)
  grant usage on schema public to prisma;
  grant create on schema public to prisma;
  grant all on all tables in schema public to prisma;
  grant all on all routines in schema public to prisma;
  grant all on all sequences in schema public to prisma;
  alter default privileges for role postgres in schema public grant all on tables to prisma;
  alter default privileges for role postgres in schema public grant all on routines to prisma;
  alter default privileges for role postgres in schema public grant all on sequences to prisma;
`;

async function ask(connectionString, sql) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows?.flat();
  } finally {
    await client.end();
  }
}

// The CLI is the one of npm; only its native engine has a stand-in.
const engine = { PRISMA_SCHEMA_ENGINE_BINARY: resolve('schema-engine.mjs'), CHECKPOINT_DISABLE: '1', PRISMA_HIDE_UPDATE_MESSAGE: '1', NO_COLOR: '1' };

async function execute(program, words, { directory = project, ...environment } = {}) {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const env = { ...inherited, ...engine, ...environment };
  try {
    return (await promisify(execFile)(join(bin, program), words, { cwd: directory, env })).stdout;
  } catch (error) {
    throw new Error(`${program} ${words.join(' ')}: ${error.stdout}${error.stderr}`);
  }
}

const prisma = (command, options) => execute('prisma', command.split(' '), options);
const schema = (directory = project) => join(directory, 'prisma/schema.prisma');
const migrations = async () => (await readdir(join(project, 'prisma/migrations'), { withFileTypes: true })).filter((entry) => entry.isDirectory()).map(({ name }) => name);
const tables = (connectionString) => ask(connectionString, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1");

// An application of more clients than the pool has servers, in transactions and outside, with settings of its own.
function begin(connectionString) {
  const over = new AbortController();
  const pools = Array.from({ length: 3 }, () => new pg.Pool({ connectionString, max: 5 }));
  let served = 0;
  const worker = async (pool, mark) => {
    while (!over.signal.aborted) {
      const client = await pool.connect();
      try {
        await client.query(`SET statement_timeout = '${60 + mark}s'`);
        await client.query('BEGIN');
        equal((await client.query('SELECT $1::int AS a', [mark])).rows[0].a, mark);
        await client.query('COMMIT');
        equal((await client.query('SHOW statement_timeout')).rows[0].statement_timeout, mark === 0 ? '1min' : `${60 + mark}s`);
        served += 1;
      } finally {
        client.release();
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const workers = pools.flatMap((pool, i) => Array.from({ length: 5 }, (_, j) => worker(pool, i * 5 + j)));
  // Whoever fails is heard of at the end.
  const all = Promise.all(workers);
  all.catch(() => {});
  return {
    end: async () => {
      over.abort();
      await all;
      await Promise.all(pools.map((pool) => pool.end()));
      return served;
    },
  };
}

const BOTH = ['Post', 'User', '_prisma_migrations'];

await run({
  '1: the user, in SQL': () => ask(url(SESSION_PORT, 'postgres', SUPERUSER_PASSWORD), ROLE),

  '1: it logs in on both ports': async () => {
    for (const port of [SESSION_PORT, TRANSACTION_PORT]) {
      deepEqual(await ask(url(port, 'prisma', PASSWORD), 'SELECT current_user::text, session_user::text'), ['prisma', 'prisma']);
      await rejects(ask(url(port, 'prisma', 'another'), 'SELECT 1'), { code: '28P01' });
    }
  },

  '2 and 3: the project and its .env': async () => {
    await rm(project, { recursive: true, force: true });
    await cp('guide', project, { recursive: true });
    await writeFile(join(project, '.env'), `DATABASE_URL="${DATABASE_URL}"\nDIRECT_URL="${DIRECT_URL}"\n`);
  },

  '5: migrate dev': async () => {
    await appendFile(schema(), await readFile(join(project, 'models.prisma')));
    match(await prisma('migrate dev --name first_prisma_migration'), /Your database is now in sync with your schema/);
    match((await migrations()).join(), /^\d{14}_first_prisma_migration$/);
    deepEqual(await tables(DATABASE_URL), BOTH);
    equal((await ask(DATABASE_URL, `SELECT tableowner::text FROM pg_tables WHERE tablename = 'Post'`))[0], 'prisma');
    match(await prisma('migrate status'), /Database schema is up to date!/);
  },

  '6: generate': async () => match(await prisma('generate'), /Generated Prisma Client/),

  '7: the test program, on both ports': async () => {
    for (const environment of [{}, { DATABASE_URL: DIRECT_URL }]) equal(await execute('tsx', ['index.ts'], environment), '[]\n');
  },

  'an application, on both ports': async () => {
    for (const [MODE, DATABASE_URL] of [['transaction', url(TRANSACTION_PORT, 'prisma', PASSWORD)], ['session', DIRECT_URL]])
      match(await execute('tsx', ['exercise.ts'], { MODE, DATABASE_URL }), /ok nothing is left behind\n$/);
  },

  'a change is migrated with the help of a shadow database': async () => {
    await writeFile(schema(), (await readFile(schema(), 'utf8')).replace('content   String?', 'content   String?\n  views     Int     @default(0)'));
    match(await prisma('migrate dev --name views'), /Your database is now in sync with your schema/);
    const [, second] = await migrations();
    equal(await readFile(join(project, 'prisma/migrations', second, 'migration.sql'), 'utf8').then((sql) => sql.split('\n')[1]), 'ALTER TABLE "Post" ADD COLUMN     "views" INTEGER NOT NULL DEFAULT 0;');
    deepEqual(await ask(DIRECT_URL, "SELECT datname::text FROM pg_database WHERE datname LIKE 'prisma_migrate_shadow_db%'"), []);
  },

  'migrate deploy makes the database that it lacks': async () => {
    match(await prisma('migrate deploy', inDatabase('production')), /All migrations have been successfully applied/);
    deepEqual(await tables(url(TRANSACTION_PORT, 'prisma', PASSWORD, 'production')), BOTH);
    match(await prisma('migrate deploy', inDatabase('production')), /No pending migrations to apply/);
  },

  'db push': async () => {
    match(await prisma('db push', inDatabase('pushed')), /Your database is now in sync with your Prisma schema/);
    deepEqual(await tables(url(TRANSACTION_PORT, 'prisma', PASSWORD, 'pushed')), ['Post', 'User']);
  },

  '5: a database that has its tables already': async () => {
    const directory = resolve('populated');
    await rm(directory, { recursive: true, force: true });
    await cp('guide', directory, { recursive: true });
    const options = { directory, ...inDatabase('pushed') };
    await prisma('db pull', options);
    const pulled = await readFile(schema(directory), 'utf8');
    for (const line of [/model Post \{/, /model User \{/, /email String +@unique/, /published Boolean +@default\(false\)/]) match(pulled, line);
    const place = join(directory, 'prisma/migrations/0_init_supabase');
    await mkdir(place, { recursive: true });
    await writeFile(join(place, 'migration.sql'), await prisma('migrate diff --from-empty --to-schema prisma/schema.prisma --script', options));
    match(await prisma('migrate resolve --applied 0_init_supabase', options), /Migration 0_init_supabase marked as applied/);
    match(await prisma('migrate status', options), /Database schema is up to date!/);
  },

  'migrate reset': async () => {
    await ask(DATABASE_URL, `INSERT INTO "User" (email) VALUES ('gone')`);
    match(await prisma('migrate reset --force'), /Database reset successful/);
    deepEqual(await ask(DATABASE_URL, 'SELECT count(*)::int FROM "User"'), [0]);
    deepEqual(await tables(DIRECT_URL), BOTH);
  },

  // Each of its statements may find another server; those of the application run between them, on the same few.
  'the same on 6543, under traffic': async () => {
    const there = { DIRECT_URL: url(TRANSACTION_PORT, 'prisma', PASSWORD, 'busy') };
    match(await prisma('migrate deploy', there), /All migrations have been successfully applied/);
    const traffic = begin(there.DIRECT_URL);
    const once = await readFile(schema(), 'utf8');
    try {
      await writeFile(schema(), once.replace('views     Int     @default(0)', 'views     Int     @default(0)\n  likes     Int     @default(0)'));
      match(await prisma('migrate dev --name likes', there), /Your database is now in sync with your schema/);
      match((await migrations()).join(), /_likes$/);
      match(await prisma('migrate status', there), /Database schema is up to date!/);
      match(await prisma('migrate deploy', there), /No pending migrations to apply/);
      match(await prisma('db push', there), /The database is already in sync with the Prisma schema|Your database is now in sync/);
      match(await prisma('db pull --print', there), /likes +Int +@default\(0\)/);
      match(await prisma('migrate reset --force', there), /Database reset successful/);
      deepEqual(await tables(there.DIRECT_URL), BOTH);
      deepEqual(await ask(DIRECT_URL, "SELECT datname::text FROM pg_database WHERE datname LIKE 'prisma_migrate_shadow_db%'"), []);
    } finally {
      await writeFile(schema(), once);
    }
    const served = await traffic.end();
    equal(served > 100, true, `${served} transactions beside the migrations`);
  },

  'a wrong password is P1000': () => rejects(prisma('migrate status', { DIRECT_URL: url(SESSION_PORT, 'prisma', 'another') }), /P1000/),
});
