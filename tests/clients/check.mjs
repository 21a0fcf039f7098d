// Runs the cases of one client program, bounded in time: `ok NAME` for each that passes, and the end at the first that does not.

export const URL = process.env.DATABASE_URL;
// `session` or `transaction`: with the first, no more sessions at once than the pool has servers.
export const MODE = process.env.MODE;
const LIMIT_MS = Number(process.env.LIMIT_MS ?? 90_000);

export async function run(cases) {
  let current = 'nothing';
  const alarm = setTimeout(() => fail(current, new Error(`not done after ${LIMIT_MS} ms`)), LIMIT_MS);
  for (const [name, check] of Object.entries(cases)) {
    current = name;
    try {
      await check();
    } catch (error) {
      fail(name, error);
    }
    console.log(`ok ${name}`);
  }
  clearTimeout(alarm);
}

function fail(name, error) {
  console.error(`failed: ${name}:`, error);
  process.exit(1);
}

// Awaits what nobody announces.
export async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

// The SQLSTATE it fails with.
export async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code ?? error;
  }
  return 'no error';
}

export const range = (count) => Array.from({ length: count }, (_, i) => i);
