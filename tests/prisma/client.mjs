// The client of Prisma 7 with its `pg` adapter.

import { deepEqual, equal, rejects } from 'node:assert/strict';
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';
import generated from './client/generated/index.js';
import { MODE, URL, range, run } from './check.mjs';

const { Prisma, PrismaClient } = generated;

// As `prisma migrate` would write it.
const SCHEMA = `
  CREATE TABLE "User" (id SERIAL PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT);
  CREATE TABLE "Post" (id SERIAL PRIMARY KEY, title TEXT NOT NULL, views BIGINT NOT NULL DEFAULT 0, meta JSONB,
    at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "authorId" INTEGER NOT NULL REFERENCES "User" ON DELETE CASCADE);
  CREATE TABLE "Tag" (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE "_PostToTag" ("A" INTEGER REFERENCES "Post" ON DELETE CASCADE, "B" INTEGER REFERENCES "Tag" ON DELETE CASCADE,
    PRIMARY KEY ("A", "B"));
`;

async function migrate() {
  const client = new pg.Client({ connectionString: process.env.SESSION_URL });
  await client.connect();
  await client.query(SCHEMA);
  await client.end();
}

// Unnamed statements are Prisma's default; names are opt-in, and then there is one for everything.
let names = 0;
const known = new Map();
const named = ({ sql }) => known.get(sql) ?? known.set(sql, `s${names++}`).get(sql);

async function withClient(options, use) {
  // In session mode each of its connections holds a server.
  const max = MODE === 'session' ? 4 : 10;
  const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: `${URL}&pgbouncer=true`, max }, options) });
  try {
    await use(prisma);
  } finally {
    await prisma.$disconnect();
  }
}

const both = (use) => async () => {
  await withClient({}, (prisma) => use(prisma, 'a'));
  await withClient({ statementNameGenerator: named }, (prisma) => use(prisma, 'b'));
};

await run({
  'the schema, on the session port': migrate,

  'create, read, update, delete': both(async ({ user }, x) => {
    const made = await user.create({ data: { email: `${x}@crud`, name: 'ü' } });
    deepEqual(await user.findUnique({ where: { id: made.id } }), { id: made.id, email: `${x}@crud`, name: 'ü' });
    equal((await user.update({ where: { id: made.id }, data: { name: null } })).name, null);
    equal((await user.upsert({ where: { email: `${x}@crud` }, create: { email: 'no' }, update: { name: 'up' } })).name, 'up');
    deepEqual(await user.createMany({ data: range(50).map((i) => ({ email: `${x}${i}@many` })) }), { count: 50 });
    equal(await user.count({ where: { email: { startsWith: x, endsWith: '@many' } } }), 50);
    deepEqual(await user.deleteMany({ where: { email: { startsWith: x } } }), { count: 51 });
  }),

  'nested writes': both(async ({ user, post }, x) => {
    const tags = { connectOrCreate: ['red', 'blue'].map((name) => ({ where: { name }, create: { name } })) };
    const made = await user.create({
      data: { email: `${x}@nested`, posts: { create: range(3).map((i) => ({ title: `t${i}`, meta: { i }, tags })) } },
      include: { posts: { include: { tags: { orderBy: { name: 'asc' } } } } },
    });
    deepEqual(made.posts.map(({ tags }) => tags.map(({ name }) => name)), range(3).map(() => ['blue', 'red']));
    await user.update({ where: { id: made.id }, data: { posts: { deleteMany: { title: 't1' }, updateMany: { where: {}, data: { views: 1n << 40n } } } } });
    const left = await post.findMany({ where: { authorId: made.id, tags: { some: { name: 'red' } } }, orderBy: { title: 'asc' } });
    deepEqual(left.map(({ title, views, meta }) => [title, views, meta]), [0, 2].map((i) => [`t${i}`, 1n << 40n, { i }]));
    const refused = user.create({ data: { email: `${x}@half`, posts: { create: { title: 'x', author: { connect: { id: -1 } } } } } });
    await rejects(refused);
    equal(await user.findUnique({ where: { email: `${x}@half` } }), null);
  }),

  'batch transactions': both(async (prisma, x) => {
    const create = (email) => prisma.user.create({ data: { email } });
    const [one, count] = await prisma.$transaction([create(`${x}@batch`), prisma.user.count({ where: { email: `${x}@batch` } })]);
    deepEqual([one.email, count], [`${x}@batch`, 1]);
    await rejects(prisma.$transaction([create(`${x}@batch2`), create(`${x}@batch`)]), { code: 'P2002' });
    equal(await prisma.user.count({ where: { email: `${x}@batch2` } }), 0);
  }),

  'interactive transactions': both(async (prisma, x) => {
    const options = { isolationLevel: Prisma.TransactionIsolationLevel.RepeatableRead, maxWait: 20_000, timeout: 20_000 };
    const total = await prisma.$transaction(async (tx) => {
      const author = await tx.user.create({ data: { email: `${x}@inter` } });
      for (const i of range(5)) await tx.post.create({ data: { title: `p${i}`, authorId: author.id } });
      return tx.post.count({ where: { authorId: author.id } });
    }, options);
    equal(total, 5);
    const undone = prisma.$transaction(async (tx) => {
      await tx.user.create({ data: { email: `${x}@undone` } });
      throw new Error('no');
    }, options);
    await rejects(undone, { message: 'no' });
    equal(await prisma.user.count({ where: { email: `${x}@undone` } }), 0);
  }),

  'raw queries': both(async (prisma, x) => {
    deepEqual(await prisma.$queryRaw`SELECT ${7}::int AS n, ${x}::text AS t, now() IS NOT NULL AS now`, [{ n: 7, t: x, now: true }]);
    equal(await prisma.$executeRaw`INSERT INTO "User" (email) VALUES (${`${x}@raw`})`, 1);
    deepEqual(await prisma.$queryRawUnsafe('SELECT email FROM "User" WHERE email = $1', `${x}@raw`), [{ email: `${x}@raw` }]);
    await rejects(prisma.$queryRawUnsafe('SELEC'), { code: 'P2010' });
  }),

  'a unique violation': both(async ({ user }, x) => {
    await user.create({ data: { email: `${x}@unique` } });
    await rejects(user.create({ data: { email: `${x}@unique` } }), { code: 'P2002' });
    await rejects(user.update({ where: { id: -1 }, data: { name: 'nobody' } }), { code: 'P2025' });
  }),

  'a hundred at once': both(async ({ user }, x) => {
    await Promise.all(range(100).map((i) => user.create({ data: { email: `${x}${i}@once` } })));
    const found = await Promise.all(range(100).map((i) => user.findUnique({ where: { email: `${x}${i}@once` }, include: { posts: true } })));
    deepEqual(found.map(({ email, posts }) => [email, posts]), range(100).map((i) => [`${x}${i}@once`, []]));
  }),

  'many transactions at once': both(async (prisma, x) => {
    const options = { maxWait: 60_000, timeout: 60_000 };
    const one = (i) =>
      prisma.$transaction(async (tx) => {
        const { id } = await tx.user.create({ data: { email: `${x}${i}@tx` } });
        await tx.user.update({ where: { id }, data: { name: String(i) } });
        return tx.user.findUnique({ where: { id } });
      }, options);
    deepEqual((await Promise.all(range(30).map(one))).map(({ name }) => name), range(30).map(String));
  }),
});
