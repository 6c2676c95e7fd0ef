// Trees of values: opens what was not sent, moves by keys, and knows the path of each row.

import { errorOf, pageOf } from './live.js';

export const rowOf = (item) => item.querySelector(':scope > .row, :scope > details > .row');
const itemOf = (element) => element.closest('li[data-step]');

// The path of a row, as a list of names and positions.
export function stepsOf(element) {
  const steps = [];
  for (let item = itemOf(element); item !== null; item = itemOf(item.parentElement)) steps.unshift(JSON.parse(item.dataset.step));
  const tree = element.closest('.tree');
  return [...(tree === null ? [] : JSON.parse(tree.dataset.path)), ...steps];
}

export function written(steps) {
  const part = (step) => (typeof step === 'number' ? `[${step}]` : /^[\p{L}_][\p{L}\p{N}_]*$/u.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`);
  return `$${steps.map(part).join('')}`;
}

// The element of a path, opening what is closed on the way; undefined if it cannot be shown.
export async function reach(tree, steps) {
  let within = tree;
  let item;
  for (const step of steps) {
    if (item !== undefined) await open(item.querySelector(':scope > details'));
    within = item ?? tree;
    item = await child(within, step);
    if (item === undefined) return undefined;
  }
  return item;
}

async function child(within, step) {
  const list = within.querySelector(within.matches('.tree') ? ':scope > .rows' : ':scope > details > .rows');
  if (list === null) return undefined;
  const wanted = JSON.stringify(step);
  for (;;) {
    const found = [...list.children].find((item) => item.dataset.step !== undefined && JSON.stringify(JSON.parse(item.dataset.step)) === wanted);
    const more = list.querySelector(':scope > .following');
    if (found !== undefined || more === null) return found;
    const before = list.children.length;
    if (typeof step === 'number') await extend(more, Math.floor(step / 100) * 100); else await extend(more);
    if (list.children.length <= before) return undefined;
  }
}

// Opens a part; what was not sent is read now.
export async function open(details) {
  if (details === null) return;
  details.open = true;
  const rest = details.querySelector(':scope > .rest, :scope > form');
  if (rest === null) return;
  if (rest.dataset.isRead) return;
  rest.dataset.isRead = 'yes';
  const [status, page] = await pageOf(rest);
  const list = page.querySelector('.tree > .rows');
  if (status !== 200 || list === null) {
    rest.replaceWith(Object.assign(document.createElement('p'), { className: 'soft', textContent: errorOf(status, page) }));
    return;
  }
  details.classList.add('loaded');
  rest.replaceWith(document.adoptNode(list));
}

// Replaces the link to more items, or to more of a text, by these.
async function extend(more, start) {
  const link = more.matches('li') ? more.querySelector('form, a') : more;
  if (link === null || link.dataset.isRead) return;
  link.dataset.isRead = 'yes';
  const [status, page] = await pageOf(link, start === undefined ? {} : { start });
  if (status !== 200) { link.replaceWith(` ${errorOf(status, page)}`); return; }
  const list = page.querySelector('.tree > .rows');
  if (list !== null) {
    const items = [...list.children].map((item) => document.adoptNode(item));
    const last = more.previousElementSibling?.dataset.step;
    if (start !== undefined && last !== undefined && JSON.parse(last) + 1 < start) {  // what is between stays away
      items.unshift(Object.assign(document.createElement('li'), { className: 'soft', textContent: '…' }));
    }
    more.replaceWith(...items);
    return;
  }
  const text = page.querySelector('.tree .v.text');
  link.parentElement.querySelector('.v.text').append(text.textContent);
  const next = page.querySelector('.tree form') ?? page.querySelector('.tree .rest');
  if (next === null) link.remove(); else link.replaceWith(document.adoptNode(next));
}

export function setUp(value, onCurrent) {
  value.addEventListener('toggle', (event) => { if (event.target.open) open(event.target); }, true);
  value.addEventListener('click', (event) => {
    const rest = event.target.closest('.rest, .following form, .row form');
    if (rest !== null && event.target.closest('.tree') !== null) {
      event.preventDefault();
      extend(rest.closest('.following') ?? rest.closest('form') ?? rest);
      return;
    }
    const row = event.target.closest('.row');
    if (row !== null) choose(row);
  });
  value.addEventListener('pointerover', (event) => {
    const row = event.target.closest('.row');
    if (row !== null) onCurrent(row, false);
  });
  value.addEventListener('pointerleave', () => onCurrent(value.querySelector('.row.current'), false));
  value.addEventListener('focusin', (event) => { if (event.target.matches('.row')) choose(event.target); });
  value.addEventListener('keydown', (event) => {
    if (event.target.matches('.row') && move(value, event.target, event.key)) event.preventDefault();
  });

  function choose(row) {
    value.querySelector('.row.current')?.classList.remove('current');
    row.classList.add('current');
    onCurrent(row, true);
  }

  for (const row of value.querySelectorAll('div.row')) row.tabIndex = -1;
}

function move(value, row, key) {
  const details = row.matches('summary') ? row.parentElement : null;
  const go = (to) => { if (to) { to.tabIndex = to.matches('summary') ? 0 : -1; to.focus(); } return true; };
  const rows = [...row.closest('.tree').querySelectorAll('.row')].filter((each) => each.checkVisibility());
  const at = rows.indexOf(row);
  const parent = itemOf(row)?.parentElement.closest('li[data-step]');
  switch (key) {
    case 'ArrowDown': return go(rows[at + 1]);
    case 'ArrowUp': return go(rows[at - 1]);
    case 'Home': return go(rows[0]);
    case 'End': return go(rows.at(-1));
    case 'ArrowRight':
      if (details === null) return false;
      if (details.open) return go(rows[at + 1]);
      open(details);
      return true;
    case 'ArrowLeft':
      if (details !== null && details.open) { details.open = false; return true; }
      return parent ? go(rowOf(parent)) : false;
    default: return false;
  }
}
