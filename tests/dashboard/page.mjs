// The dashboard in a real browser, in front of a pooler that pgbench keeps busy.

import { deepEqual, equal, ok } from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { run } from './check.mjs';

const { PAGE, GUARDED, TOKEN, SHOTS, CHROMIUM, POOLER_PID } = process.env;
// How long it watches before the pictures are taken, for plots with a past.
const PAST_MS = Number(process.env.PAST_MS ?? 0);
const PATIENCE_MS = 60_000;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const profile = mkdtempSync(join(tmpdir(), 'dashboard-'));
const context = await chromium.launchPersistentContext(profile, { executablePath: CHROMIUM, headless: true, args: FLAGS, viewport: { width: 1280, height: 900 } });
context.setDefaultTimeout(PATIENCE_MS);
const page = await context.newPage();

// Whatever goes wrong in the page, and wherever it turns to.
const complaints = [];
const hosts = new Set();
page.on('pageerror', (error) => complaints.push(String(error)));
page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
page.on('request', (request) => request.url().startsWith('data:') || hosts.add(new URL(request.url()).host));

const state = async () => (await fetch(new URL('/api/state', PAGE))).json();
const busy = (state) => state.pools.find((pool) => pool.mode === 'transaction');
const transactions = async () => busy(await state()).totals.transactions;
const figure = (name) => page.locator('#figures .card', { hasText: name }).locator('b').textContent();
const card = page.locator('.pool', { hasText: 'transaction' });
const dialog = page.locator('#dialog');
const row = (table, text) => page.locator(`#${table} tbody tr`, { hasText: text });

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    ok(Date.now() < deadline, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function said(text) {
  await page.locator('#said', { hasText: text }).waitFor();
}

async function confirm(yes) {
  await dialog.waitFor();
  await dialog.getByRole('button', { name: yes, exact: true }).click();
  await dialog.waitFor({ state: 'hidden' });
}

async function fits(width) {
  await page.setViewportSize({ width, height: 800 });
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
  ok(wide <= width, `${wide} px on a screen of ${width}`);
}

const picture = (name, options = {}) => page.screenshot({ path: join(SHOTS, `${name}.png`), ...options });

await run({
  'the page draws': async () => {
    await page.goto(PAGE);
    await page.locator('#phase', { hasText: 'serving' }).waitFor();
    await card.locator('path.first').first().waitFor({ state: 'attached' });
    await row('holders', 'checkout').waitFor();
    await row('waiters', 'pgbench').first().waitFor();
  },

  'plots move': async () => {
    const drawn = () => page.locator('path.first').evaluateAll((paths) => paths.map((path) => path.getAttribute('d')));
    // All three of the pooler, and all four of the pool.
    await until('all plots have lines', async () => (await drawn()).filter((d) => d.includes('L')).length >= 7);
    const before = await drawn();
    await until('they move', async () => (await drawn()).every((d, i) => d !== before[i] || d === ''));
  },

  'figures agree with the state': async () => {
    const { clients, clients_limit, pools, upstreams } = await state();
    await until('the clients', async () => (await figure('clients')) === `${clients} of ${clients_limit}`);
    const { servers, mode, database, user } = busy({ pools });
    const facts = await card.locator('p').textContent();
    ok(facts.includes(`${servers.held} held (temporary tables)`) && facts.endsWith(`at most ${servers.limit}`), facts);
    equal(await card.locator('.name').textContent(), `${user}@${database}`);
    equal(await card.locator('summary .badge').first().textContent(), mode);
    const [{ connections_limit, host, port }] = upstreams;
    const upstream = await page.locator('#upstreams tbody tr td').allTextContents();
    deepEqual([upstream[1], upstream[2]], [`${host}:${port}`, 'up']);
    ok(upstream[3].endsWith(` of ${connections_limit}`), upstream[3]);
    // A rate is right when the counter says so, over the time in which the page shows several.
    const [from, began] = [await transactions(), Date.now()];
    const shown = [];
    await until('some samples', async () => shown.push(await figure('transactions/s')) && Date.now() - began > 8000);
    const rate = ((await transactions()) - from) / ((Date.now() - began) / 1000);
    const rates = shown.map(Number);
    ok(rate > 0 && Math.min(...rates) <= rate * 1.5 && Math.max(...rates) >= rate / 1.5, `${rate} and ${shown}`);
  },

  'who waits, who holds and why is named': async () => {
    const pin = await row('pins', 'reports').locator('td').allTextContents();
    equal(pin[1], 'temporary tables');
    // Without what the client wrote into it.
    ok(pin[2].startsWith('CREATE TEMP TABLE kept') && !pin[2].includes('secret'), pin[2]);
    const finding = await row('lint', 'reports').first().locator('td').allTextContents();
    ok(finding.every((text) => text.length > 0), finding);
    const longest = (await state()).holders.rows[0];
    equal(longest.application_name, 'reports');
    ok(!(await page.locator('main').textContent()).includes('secret'));
  },

  'the focus stays where it is': async () => {
    const pause = card.getByRole('button', { name: 'Pause' });
    await pause.focus();
    const now = await card.locator('.now').textContent();
    await until('it is drawn anew', async () => (await card.locator('.now').textContent()) !== now);
    ok(await pause.evaluate((button) => button === document.activeElement));
  },

  'a dialog that is left changes nothing': async () => {
    await page.keyboard.press('Enter');
    await dialog.waitFor();
    ok(await dialog.getByRole('button', { name: 'Cancel' }).evaluate((button) => button === document.activeElement));
    await picture('dialog');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    await card.getByRole('button', { name: 'Reconnect' }).click();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    await dialog.waitFor({ state: 'hidden' });
    equal(busy(await state()).paused, false);
    equal(await page.locator('#said').isVisible(), false);
  },

  'pictures': async () => {
    await new Promise((resolve) => setTimeout(resolve, PAST_MS));
    await page.mouse.move(0, 0);
    await picture('light');
    for (const scheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme: scheme });
      await fits(360);
      await picture(`phone-${scheme}`);
      await picture(`phone-${scheme}-whole`, { fullPage: true });
      await fits(1280);
      await picture(`${scheme}-whole`, { fullPage: true });
    }
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    await picture('dark');
    await page.emulateMedia({ colorScheme: 'light' });
    ok(ground !== (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)));
    await page.setViewportSize({ width: 1280, height: 900 });
  },

  'a client is ended': async () => {
    const { client_id } = (await state()).holders.rows.find((holder) => holder.application_name === 'checkout');
    await row('holders', 'checkout').getByRole('button').click();
    await page.locator('#dialog-text', { hasText: 'checkout' }).waitFor();
    await confirm('End it');
    await said(`Client ${client_id} was ended.`);
    await page.mouse.move(0, 0);
    await row('holders', 'checkout').waitFor({ state: 'detached' });
  },

  'pause and resume': async () => {
    await card.getByRole('button', { name: 'Pause' }).click();
    await confirm('Pause');
    await said('is paused');
    await card.locator('.badge', { hasText: 'paused' }).waitFor();
    equal(busy(await state()).paused, true);
    // Whoever keeps a server for its temporary table may go on.
    await until('others have none', async () => busy(await state()).servers.active === 0);
    const before = await transactions();
    await until('the page says so', async () => (await figure('transactions/s')) === '0');
    equal(await transactions(), before);
    await card.getByRole('button', { name: 'Resume' }).click();
    await confirm('Resume');
    await said('is resumed');
    await until('it goes on', async () => (await transactions()) > before);
    await card.getByRole('button', { name: 'Pause' }).waitFor();
  },

  'disable and enable': async () => {
    await card.getByRole('button', { name: 'Disable' }).click();
    await confirm('Disable');
    await said('takes no new clients');
    await card.locator('.badge', { hasText: 'disabled' }).waitFor();
    equal(busy(await state()).disabled, true);
    await card.getByRole('button', { name: 'Enable' }).click();
    await confirm('Enable');
    await said('takes new clients again');
    await card.getByRole('button', { name: 'Disable' }).waitFor();
    equal(busy(await state()).disabled, false);
  },

  'what cannot be done is said': async () => {
    await page.getByRole('button', { name: 'Resume all' }).click();
    await confirm('Resume');
    await said('Refused (409): the pooler is not paused');
    // The browser reports the status by itself.
    deepEqual(complaints.splice(0).filter((text) => !text.includes('409')), []);
  },

  'reconnect and reload': async () => {
    const connects = async () => busy(await state()).totals.connects;
    const before = await connects();
    await card.getByRole('button', { name: 'Reconnect' }).click();
    await confirm('Reconnect');
    await said('is being reconnected');
    await until('there are new servers', async () => (await connects()) > before);
    await page.getByRole('button', { name: 'Reload' }).click();
    await confirm('Reload');
    await said('The configuration was reloaded.');
  },

  'silence is seen, and its end': async () => {
    process.kill(Number(POOLER_PID), 'SIGSTOP');
    try {
      await page.locator('#lost', { hasText: 'does not answer since' }).waitFor();
      ok(await page.evaluate(() => document.body.classList.contains('stale')));
    } finally {
      process.kill(Number(POOLER_PID), 'SIGCONT');
    }
    await page.locator('#lost').waitFor({ state: 'hidden' });
    await page.locator('#phase', { hasText: 'serving' }).waitFor();
  },

  'a token is asked for': async () => {
    await page.goto(GUARDED);
    await page.locator('#token').fill(TOKEN);
    equal(await page.locator('main').isVisible(), false);
    await page.getByRole('button', { name: 'Show' }).click();
    await page.locator('#phase', { hasText: 'serving' }).waitFor();
    equal(await page.locator('#token-form').isVisible(), false);
    await page.getByRole('button', { name: 'Reload' }).click();
    await confirm('Reload');
    await said('The configuration was reloaded.');
    deepEqual(complaints.splice(0).filter((text) => !text.includes('401')), []);
  },

  'everybody in a database is ended': async () => {
    await card.getByRole('button', { name: 'Kill' }).click();
    await confirm('Kill');
    await said('has no clients any more');
    // A pool without clients and servers is forgotten, and the pause is not.
    await card.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Resume all' }).click();
    await confirm('Resume');
    await said('Everything is resumed.');
  },

  'nothing was complained of, and nobody else asked': async () => {
    deepEqual(complaints, []);
    deepEqual([...hosts].sort(), [PAGE, GUARDED].map((url) => new URL(url).host).sort());
  },
});

await context.close();
rmSync(profile, { recursive: true });
