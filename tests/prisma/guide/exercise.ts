// What an application does with the guide's models.

import { deepEqual, equal, rejects } from 'node:assert/strict';
import { PrismaPg } from '@prisma/adapter-pg';
import { URL, range, run } from '../check.mjs';
import { PrismaClient } from './generated/prisma/client';

// In session mode each connection holds a server: no more of them at once than the pool has.
const client = (max = 8) => new PrismaClient({ adapter: new PrismaPg({ connectionString: URL, max }) });
const prisma = client();
const { user, post } = prisma;
const patient = { maxWait: 60_000, timeout: 60_000 };

// As a function of a serverless platform: a client, one request, the end.
async function invocation(email: string) {
  const prisma = client(1);
  try {
    const { id } = await prisma.user.create({ data: { email } });
    deepEqual(await prisma.user.findUnique({ where: { email } }), { id, email, name: null });
  } finally {
    await prisma.$disconnect();
  }
}

await run({
  'nested writes': async () => {
    const alice = await user.create({
      data: { email: 'alice@nested', name: 'Alice', posts: { create: [{ title: 'one' }, { title: 'two', content: 'ü', published: true }] } },
      include: { posts: { orderBy: { title: 'asc' } } },
    });
    deepEqual(alice.posts.map(({ title, content, published, authorId }) => [title, content, published, authorId]), [
      ['one', null, false, alice.id],
      ['two', 'ü', true, alice.id],
    ]);
    await user.update({ where: { id: alice.id }, data: { posts: { updateMany: { where: {}, data: { published: true } }, deleteMany: { title: 'one' } } } });
    deepEqual(await post.findMany({ where: { author: { email: 'alice@nested' } }, select: { title: true, published: true } }), [{ title: 'two', published: true }]);
  },

  'batch transactions': async () => {
    const create = (email: string) => user.create({ data: { email } });
    const [one, count] = await prisma.$transaction([create('one@batch'), user.count({ where: { email: 'one@batch' } })]);
    deepEqual([one.email, count], ['one@batch', 1]);
    await rejects(prisma.$transaction([create('two@batch'), create('one@batch')]), { code: 'P2002' });
    equal(await user.count({ where: { email: 'two@batch' } }), 0);
  },

  'interactive transactions': async () => {
    const posts = await prisma.$transaction(async (tx) => {
      const { id } = await tx.user.create({ data: { email: 'a@interactive' } });
      for (const i of range(5)) await tx.post.create({ data: { title: `p${i}`, authorId: id } });
      return tx.post.count({ where: { authorId: id } });
    }, patient);
    equal(posts, 5);
    const undone = prisma.$transaction(async (tx) => {
      await tx.user.create({ data: { email: 'b@interactive' } });
      throw new Error('no');
    }, patient);
    await rejects(undone, { message: 'no' });
    equal(await user.findUnique({ where: { email: 'b@interactive' } }), null);
  },

  'raw queries': async () => {
    deepEqual(await prisma.$queryRaw`SELECT ${7}::int AS n, ${'ü'}::text AS t`, [{ n: 7, t: 'ü' }]);
    equal(await prisma.$executeRaw`INSERT INTO "User" (email) VALUES (${'raw@raw'})`, 1);
    await rejects(prisma.$queryRawUnsafe('SELEC'), { code: 'P2010' });
  },

  'a unique violation': async () => {
    await user.create({ data: { email: 'only@one' } });
    await rejects(user.create({ data: { email: 'only@one' } }), { code: 'P2002' });
  },

  'a hundred queries at once': async () => {
    await Promise.all(range(100).map((i) => user.create({ data: { email: `${i}@once` } })));
    const found = await Promise.all(range(100).map((i) => user.findUniqueOrThrow({ where: { email: `${i}@once` }, include: { posts: true } })));
    deepEqual(found.map(({ email, posts }) => [email, posts]), range(100).map((i) => [`${i}@once`, []]));
    await prisma.$disconnect();
  },

  'fifty clients one after another': async () => {
    for (const i of range(50)) await invocation(`${i}@after`);
  },

  'fifty clients at once': async () => {
    await Promise.all(range(50).map((i) => invocation(`${i}@together`)));
  },

  'nothing is left behind': async () => {
    const prisma = client(1);
    await prisma.post.deleteMany();
    await prisma.user.deleteMany();
    await prisma.$disconnect();
  },
});
