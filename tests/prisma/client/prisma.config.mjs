import { defineConfig } from 'prisma/config';

// `prisma generate` connects to nothing.
export default defineConfig({ schema: 'schema.prisma', datasource: { url: 'postgresql://nobody@localhost/nothing' } });
