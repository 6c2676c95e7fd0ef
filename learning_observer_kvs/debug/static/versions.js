// What a tree shows, by path; and what differs between two such: the versions of a value since its page was opened.
// They are kept in this page alone, few and short.

import { rowOf, stepsOf, written } from './tree.js';

const MAX_VERSIONS = 50;
const MAX_ROWS = 100;
const MAX_CHARACTERS = 500_000; // of all versions together
const AROUND = 30;

// The text of each row that has no rows below it, by its path.
export function flat(tree) {
  const found = new Map();
  const items = [...tree.querySelectorAll('li[data-step]')];
  for (const item of items) {
    const row = rowOf(item);
    if (row === null || item.querySelector(':scope > details > .rows > li[data-step]') !== null) continue;
    found.set(written(stepsOf(item)), { text: textOf(row), item });
  }
  if (items.length === 0) found.set('$', { text: textOf(tree), item: tree });
  return found;
}

function textOf(row) {
  const value = row.querySelector('.v');
  if (value === null) return row.querySelector('.size')?.textContent ?? row.textContent.trim();
  const rest = row.querySelector('.rest');
  return rest === null ? value.textContent : `${value.textContent} … (${rest.textContent.trim()})`;
}

export function difference(before, after) {
  const rows = [];
  for (const [path, { text, item }] of after) {
    const old = before.get(path)?.text;
    if (old !== text) rows.push({ path, before: old, after: text, item });
  }
  for (const [path, { text }] of before) if (!after.has(path)) rows.push({ path, before: text, after: undefined, item: null });
  return rows;
}

export class Versions {
  #list;
  #section;
  #sizes = [];

  constructor(section) {
    this.#section = section;
    this.#list = section.querySelector('ol');
  }

  add(rows, at, about) {
    const body = element('div', 'difference');
    let size = 0;
    for (const row of rows.slice(0, MAX_ROWS)) {
      const line = element('p');
      const what = element('span', 'what');
      what.append(...changed(row.before, row.after));
      line.append(element('span', 'at', row.path), what);
      size += line.textContent.length;
      body.append(line);
    }
    if (rows.length > MAX_ROWS) body.append(element('p', 'soft', `and ${(rows.length - MAX_ROWS).toLocaleString('en')} more`));
    const entry = element('li');
    const details = element('details');
    const summary = element('summary', '', at);
    summary.append(element('span', '', ` · ${about}`));
    details.append(summary, body);
    details.open = this.#sizes.length === 0;
    entry.append(details);
    this.#list.prepend(entry);
    this.#section.hidden = false;
    this.#sizes.push(size);
    while (this.#sizes.length > MAX_VERSIONS || (this.#sizes.length > 1 && sum(this.#sizes) > MAX_CHARACTERS)) {
      this.#sizes.shift();
      this.#list.lastElementChild.remove();
    }
  }
}

const sum = (numbers) => numbers.reduce((all, number) => all + number, 0);

// Two texts as one: what both have, with what was taken out and put in; what they have in common is cut.
function changed(before, after) {
  if (before === undefined) return [element('ins', '', short(after))];
  if (after === undefined) return [element('del', '', short(before))];
  const most = Math.min(before.length, after.length);
  let first = 0;
  while (first < most && before[first] === after[first]) first++;
  let same = 0;
  while (same < most - first && before.at(-1 - same) === after.at(-1 - same)) same++;
  const isNumber = [before, after].every((text) => /^-?[\d.,]+$/.test(text));
  if (Math.max(before.length, after.length) < 80 && (isNumber || first + same < 4)) {
    return [element('del', '', before), ' → ', element('ins', '', after)];
  }
  const start = before.slice(0, first);
  const end = before.slice(before.length - same);
  const parts = [first > AROUND ? `…${start.slice(-AROUND)}` : start];
  if (before.length - same > first) parts.push(element('del', '', short(before.slice(first, before.length - same))));
  if (after.length - same > first) parts.push(element('ins', '', short(after.slice(first, after.length - same))));
  parts.push(same > AROUND ? `${end.slice(0, AROUND)}…` : end);
  return parts;
}

const short = (text) => (text.length > 2000 ? `${text.slice(0, 2000)}…` : text);

function element(name, kind = '', text = '') {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}
