#!/usr/bin/env node
// Stands in for Prisma's native schema engine, which npm does not have: the CLI starts it in that one's place, unmodified.
// The same engine, as npm has it (WebAssembly), behind the native one's command line and JSON-RPC, over one plain connection.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils';
import * as wasm from '@prisma/schema-engine-wasm/schema_engine_bg';
import pg from 'pg';

// The catalog's types that the adapter does not read, and what it reads as the same: "char", name and their arrays.
const READ_AS = new Map([[18, 25], [19, 25], [1002, 1009], [1003, 1009]]);

class Adapters {
  provider = 'postgres';
  adapterName = 'stand-in';

  constructor(url) {
    this.url = url;
  }

  // One for all that the engine does, as with the native one, until the process ends.
  connect() {
    this.main ??= this.open().then((adapter) => Object.assign(adapter, { dispose: async () => {} }));
    return this.main;
  }

  async open(database) {
    const schema = new URL(this.url).searchParams.get('schema') ?? 'public';
    const client = new pg.Client({ connectionString: this.url, options: `-c search_path="${schema}"` });
    client.database = client.connectionParameters.database = database ?? client.database;
    // Its end is noticed by whoever uses it next.
    client.on('error', () => {});
    const adapter = await new PrismaPg(this.url, { schema }).connect();
    await client.connect().catch((error) => adapter.onError(error));
    const query = async (...query) => {
      const result = await client.query(...query);
      for (const field of result.fields ?? []) field.dataTypeID = READ_AS.get(field.dataTypeID) ?? field.dataTypeID;
      return result;
    };
    const one = { query, on() {}, removeListener() {}, release() {} };
    adapter.client = { ...one, connect: async () => one };
    // A script is one simple query, as the native engine sends it.
    adapter.executeScript = (script) => query(script).then(() => undefined, (error) => adapter.onError(error));
    adapter.dispose = () => client.end();
    return adapter;
  }

  async connectToShadowDb() {
    const database = `prisma_migrate_shadow_db_${randomUUID()}`;
    const main = await this.connect();
    await main.executeScript(`CREATE DATABASE "${database}"`);
    const shadow = await this.open(database);
    const leave = shadow.dispose;
    const dispose = async () => {
      await leave();
      await main.executeScript(`DROP DATABASE IF EXISTS "${database}" WITH (FORCE)`);
    };
    return Object.assign(shadow, { dispose });
  }
}

async function load() {
  const place = createRequire(import.meta.url).resolve('@prisma/schema-engine-wasm/schema_engine_bg');
  const bytes = readFileSync(place.replace(/js$/, 'wasm'));
  const { instance } = await WebAssembly.instantiate(bytes, { './schema_engine_bg.js': wasm });
  wasm.__wbg_set_wasm(instance.exports);
  instance.exports.__wbindgen_start();
}

// As the native one names them.
function known(error) {
  const { code, message } = error.cause?.originalCode ? { code: error.cause.originalCode, message: error.cause.originalMessage } : error;
  if (code === '3D000') return { error_code: 'P1003', message };
  if (code === '28P01' || code === '28000') return { error_code: 'P1000', message };
  if (['ECONNREFUSED', 'ENOTFOUND', 'ECONNRESET', 'ETIMEDOUT'].includes(code)) return { error_code: 'P1001', message };
  return { error_code: /^P\d{4}$/.test(code) ? code : undefined, message: message ?? String(error) };
}

async function createDatabase(url) {
  const database = decodeURIComponent(new URL(url).pathname.slice(1));
  const server = await new Adapters(url).open('postgres');
  await server.executeScript(`CREATE DATABASE "${database.replaceAll('"', '""')}"`);
  await server.dispose();
  return { databaseName: database };
}

// `schema-engine --datasource … cli COMMAND`: an exit code, and what went wrong as a line of log.
async function once(command, url) {
  const log = (level, fields) => console.error(JSON.stringify({ level, target: 'schema_engine::logger', fields }));
  log('INFO', { message: 'Starting schema engine CLI' });
  try {
    if (command === 'create-database') await createDatabase(url);
    else await new Adapters(url).open().then((adapter) => adapter.dispose());
  } catch (error) {
    log('ERROR', { is_panic: false, ...known(error) });
    process.exitCode = 1;
  }
}

async function serve(url, files) {
  await load();
  const datamodels = files?.map((file) => [file, readFileSync(file, 'utf8')]);
  const adapters = bindMigrationAwareSqlAdapterFactory(new Adapters(url));
  let started;
  const engine = () => (started ??= wasm.SchemaEngine.new({ datamodels }, () => {}, adapters));
  const say = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  const methods = {
    createDatabase: ({ datasource }) => createDatabase(datasource.url ?? url),
    getDatabaseVersion: async () => (await engine()).version(),
    // This one looks for the migrated schema only where the diagnosis has left it, the native one makes it again.
    evaluateDataLoss: async (params) => {
      const { migrationsList, filters } = params;
      await (await engine()).devDiagnostic({ migrationsList, filters });
      return (await engine()).evaluateDataLoss(params);
    },
    diff: async (params) => {
      const { stdout, exitCode } = await (await engine()).diff(params);
      if (stdout !== null) say({ id: 1, method: 'print', params: { content: stdout } });
      return { exitCode, stdout: null };
    },
  };
  const answer = async ({ id, method, params }) => {
    // What the CLI answers to our `print`.
    if (!method) return;
    try {
      const result = await (methods[method]?.(params) ?? (await engine())[method](params));
      say({ id, result: result ?? null });
    } catch (error) {
      say({ id, error: { code: 4466, message: 'An error happened.', data: { is_panic: false, ...known(error) } } });
    }
  };
  // One after another, and the end of stdin is the end.
  for await (const line of createInterface({ input: process.stdin })) await answer(JSON.parse(line));
  process.exit(0);
}

const options = { datasource: { type: 'string' }, datamodels: { type: 'string', multiple: true }, 'extension-types': { type: 'string' } };
const { values, positionals } = parseArgs({ options, strict: false, allowPositionals: true });
if (process.argv.includes('--version')) console.log('schema-engine-cli stand-in');
else {
  const { url } = JSON.parse(values.datasource ?? '{}');
  if (positionals[0] === 'cli') await once(positionals[1], url);
  else await serve(url, values.datamodels);
}
