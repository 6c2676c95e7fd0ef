// Filters the keys while one types. The server looks for a short time and says how far it came; what follows is asked
// for until the page is full, or one types on: then what was asked for before is given up.

const PAUSE = 150;  // milliseconds without a key until the server is asked
const LONGEST = 4000;  // characters of a URL; what is longer is sent by the form

const form = document.getElementById('filter');
const box = document.getElementById('text');
const status = document.getElementById('status');  // stays, so that what it says is read out
const results = () => document.getElementById('results');
let asking = null;
let timer = 0;

function wanted() {
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) if (value !== '') url.searchParams.append(name, value);
  return url;
}

async function page(url, signal) {
  const answer = await fetch(url, { headers: { Accept: 'text/html' }, redirect: 'error', signal });
  return new DOMParser().parseFromString(await answer.text(), 'text/html');
}

async function filter() {
  const url = wanted();
  if (url.href.length > LONGEST) return;
  const shown = new URL(url);
  url.searchParams.set('step', JSON.stringify([0, null, Number(url.searchParams.get('limit') ?? 100)]));
  await run(async (signal) => {
    const found = await page(url, signal);
    const section = found.getElementById('results');
    if (section === null) { fail(found); return; }
    history.replaceState(null, '', shown);
    results().replaceWith(document.adoptNode(section));
    status.replaceChildren(...found.getElementById('status').childNodes);
    const facets = found.getElementById('facets');
    if (facets !== null) document.getElementById('facets').replaceWith(document.adoptNode(facets));
    await fill(signal);
  });
}

// Asks for what follows until the page is full.
async function fill(signal) {
  const first = results();
  const bar = first.querySelector('progress');
  let seen = Number(first.dataset.seen);
  while (first.dataset.rest && !signal.aborted) {
    bar.hidden = false;
    if (first.dataset.all) { bar.max = Number(first.dataset.all); bar.value = seen; }
    const found = await page(new URL(first.dataset.rest, location.href), signal);
    const more = found.getElementById('results');
    if (more === null) { fail(found); break; }
    seen += Number(more.dataset.seen);
    add(first, more);
    say(first, seen, more);
    first.querySelector('.pager').replaceWith(more.querySelector('.pager'));
    for (const name of ['rest', 'all']) {
      if (name in more.dataset) first.dataset[name] = more.dataset[name]; else delete first.dataset[name];
    }
  }
  bar.hidden = true;
}

function add(first, more) {
  const rows = more.querySelector('table');
  const table = first.querySelector('table');
  const empty = first.querySelector('.empty');
  if (rows === null) { if (table === null) empty.replaceWith(more.querySelector('.empty')); return; }
  if (table === null) empty.replaceWith(rows); else table.tBodies[0].append(...rows.tBodies[0].rows);
}

function say(first, seen, more) {
  const number = (value) => value.toLocaleString('en');
  const count = first.querySelectorAll('tbody tr').length;
  const words = [];
  if (count > 0) {
    const start = Number(first.dataset.at);
    const range = document.createElement('b');
    range.textContent = `${number(start + 1)}–${number(start + count)}`;
    words.push(range, ' · ');
  }
  const all = more.dataset.all ? ` of ${number(Number(more.dataset.all))}` : '';
  words.push(`${number(seen)}${more.dataset.rest ? all : ''} keys looked at`, more.dataset.rest ? ', searching on …' : '');
  status.replaceChildren(...words);
}

function fail(found) {
  const message = found.querySelector('.error')?.textContent ?? 'The keys could not be read.';
  status.textContent = message;
}

async function run(work) {
  if (asking !== null) asking.abort();
  const mine = asking = new AbortController();
  results().setAttribute('aria-busy', 'true');
  try {
    await work(mine.signal);
  } catch (error) {
    if (!mine.signal.aborted) status.textContent = 'The keys could not be read.';
  } finally {
    if (asking === mine) { asking = null; results().removeAttribute('aria-busy'); }
  }
}

form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(filter, PAUSE); });
form.addEventListener('submit', () => { clearTimeout(timer); asking?.abort(); });
addEventListener('pagehide', () => asking?.abort());
if (results().dataset.rest) run(fill);
