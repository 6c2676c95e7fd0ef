// The page of a value: collapsing, finding, copying, and what changes.

import { ask, errorOf, follow, pageOf } from './live.js';
import { open, reach, rowOf, setUp, stepsOf, written } from './tree.js';
import { Versions, difference, flat } from './versions.js';

const $ = (selector, within = document) => within.querySelector(selector);
const bar = $('.path');
const output = $('.at', bar);
let current = null;

// The path of the row under the pointer; the row that was chosen is the one that is copied

function showPath(row, isChosen) {
  if (isChosen) current = row;
  output.textContent = row === null ? '$' : written(stepsOf(row));
}

function enliven() {
  setUp($('#value'), showPath);
}

async function copy(text, button) {
  const label = button.textContent;
  try {
    await write(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not copied';
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}

async function write(text) {
  if (navigator.clipboard !== undefined) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea');  // a page that is not secure has no clipboard
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand('copy');
  area.remove();
  if (!isDone) throw new Error('The browser does not copy.');
  return undefined;
}

async function valueOf(row) {
  const panel = (row ?? $('#value .tree')).closest('.panel');
  const raw = $('.actions a, .actions form', panel);
  const answer = await ask(raw, { path: JSON.stringify(row === null ? [] : stepsOf(row)) }, 'application/json');
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  const value = JSON.parse(text);
  return typeof value === 'string' ? value : text;
}

const actions = {
  'copy-key': (button) => copy(($('#whole-key') ?? $('#key')).textContent, button),
  'copy-path': (button) => copy(written(current === null ? [] : stepsOf(current)), button),
  'copy-value': async (button) => {
    try { await copy(await valueOf(current), button); } catch { button.textContent = 'Not copied'; }
  },
  open: () => { for (const each of document.querySelectorAll('#value .tree details:not(.closed)')) each.open = true; },
  close: () => { for (const each of document.querySelectorAll('#value .tree details')) each.open = false; },
};
document.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button !== null) actions[button.dataset.do](button);
});

// Finding, as one types

const form = $('#search');
const found = $('#found');
let wanted = 0;

async function find() {
  const text = form.elements.text.value;
  const mine = ++wanted;
  if (text === '') { found.hidden = true; return; }
  const [status, page] = await pageOf(form, { text });
  if (mine !== wanted) return;  // one typed on
  const matches = page.getElementById('matches');
  found.replaceChildren(...(matches === null ? [errorOf(status, page)] : [document.adoptNode(matches)]));
  found.hidden = false;
}

let waiting = 0;
form.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(find, 200); });
form.addEventListener('submit', (event) => { event.preventDefault(); clearTimeout(waiting); find(); });
found.addEventListener('click', async (event) => {
  const match = event.target.closest('li');
  if (match === null || !event.target.closest('a, button')) return;
  event.preventDefault();
  const item = await reach($('#value .tree'), JSON.parse(match.dataset.path));
  if (item === undefined) return;
  for (let each = item.parentElement.closest('details'); each !== null; each = each.parentElement.closest('details')) each.open = true;
  const row = rowOf(item);
  row.tabIndex = row.matches('summary') ? 0 : -1;
  row.focus();
  row.scrollIntoView({ block: 'center' });
});
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && !event.target.matches('input, textarea, select')) { event.preventDefault(); form.elements.text.focus(); }
});

// What changes

let sent = $('#value').innerHTML;
const versions = new Versions($('#versions'));

async function readAgain(say, isPaused) {
  const link = Object.assign(document.createElement('a'), { href: location.href });
  const [status, page] = await pageOf(link);
  const at = new Date().toLocaleTimeString('en-GB');
  if (isPaused()) return;
  if (status === 404) {
    $('#value').classList.add('gone');
    say(`The key is not there any more since ${at}`, 'lost');
    return;
  }
  if (status !== 200) { say(`Not live: ${errorOf(status, page)}`, 'lost'); return; }
  const fresh = page.getElementById('value');
  const now = $('#value');
  const wasGone = now.classList.contains('gone');
  const html = fresh.innerHTML;
  replace('facts', page);
  if (html === sent && !wasGone) return;
  document.adoptNode(fresh);
  await restore(now, fresh);
  if (isPaused()) return;
  sent = html;
  const [before, after] = [shown(now), shown(fresh)];
  const scroll = scrollY;
  const chosen = current === null || !now.contains(current) ? null : stepsOf(current);
  now.replaceWith(fresh);
  current = null;
  enliven();
  scrollTo({ top: scroll, behavior: 'instant' });
  if (chosen !== null) {
    const item = await reach($('.tree', fresh) ?? fresh, chosen);
    if (item !== undefined) { current = rowOf(item); current.classList.add('current'); }
  }
  const rows = difference(before, after);
  for (const { item } of rows) if (item !== null) light(item);
  const about = rows.length === 0 ? 'what is open here is as before' : `${rows.length.toLocaleString('en')} ${rows.length === 1 ? 'difference' : 'differences'}`;
  versions.add(rows, at, about);
  say(`Changed at ${at}: ${about}`);
}

function replace(id, page) {
  document.getElementById(id).replaceWith(document.adoptNode(page.getElementById(id)));
  began = performance.now();
}

const shown = (value) => {
  const tree = $('.panel .tree', value);
  return tree === null ? new Map() : flat(tree);
};

function light(item) {
  const row = rowOf(item) ?? item;
  row.classList.add('lit');
  for (let each = item.parentElement?.closest('details:not([open])'); each; each = each.parentElement.closest('details:not([open])')) {
    $(':scope > summary', each).classList.add('lit');
  }
}

// Collapses the new trees as the old ones are, and reads again what was opened in them, as far as that is little.
async function restore(from, to) {
  const [old, young] = [from, to].map((value) => [...value.querySelectorAll('.panel')]);
  let reads = 0;
  for (const [index, panel] of old.entries()) {
    const tree = young[index] && $('.tree', young[index]);
    if (!tree) continue;
    for (const details of panel.querySelectorAll('.tree details')) {
      const steps = stepsOf($(':scope > summary', details));
      const other = here(tree, steps);
      if (other === undefined) continue;
      if (details.classList.contains('loaded') && details.open) {
        if (++reads <= 20) await open(other);
      } else if (!details.classList.contains('closed')) {
        other.open = details.open;
      }
    }
  }
}

function here(tree, steps) {
  let within = tree;
  for (const step of steps) {
    const list = $(within === tree ? ':scope > .rows' : ':scope > details > .rows', within);
    within = list === null ? undefined : [...list.children].find((item) => item.dataset.step !== undefined && JSON.parse(item.dataset.step) === step);
    if (within === undefined) return undefined;
  }
  return $(':scope > details', within) ?? undefined;
}

// The time to live counts down

let began = performance.now();
setInterval(() => {
  const left = $('#facts [data-expires-in]');
  if (left !== null) left.textContent = `${Math.max(0, left.dataset.expiresIn - (performance.now() - began) / 1000).toFixed(1)} s`;
}, 100);

$('.tools').hidden = false;
bar.hidden = false;
enliven();
const live = $('#live');
if (live !== null) follow(live, readAgain);
