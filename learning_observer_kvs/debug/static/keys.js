// Filters the keys while one types. The server looks for a short time and says how far it came; what follows is asked
// for until the page is full, or one types on: then what was asked for before is given up.

const PAUSE = 150;  // milliseconds without a key until the server is asked
const LONGEST = 4000;  // characters of a URL; what is longer is sent by the form

const form = document.getElementById('filter');
const box = document.getElementById('text');
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
    const facets = found.getElementById('facets');
    if (facets !== null) document.getElementById('facets').replaceWith(document.adoptNode(facets));
    await fill(signal);
  });
}

// Asks for what follows until the page is full.
async function fill(signal) {
  const first = results();
  let seen = Number(first.querySelector('progress')?.value ?? 0);
  const bar = first.querySelector('progress');
  while (first.dataset.rest && !signal.aborted) {
    if (bar !== null) { bar.hidden = false; bar.value = seen; }
    const found = await page(new URL(first.dataset.rest, location.href), signal);
    const more = found.getElementById('results');
    if (more === null) { fail(found); break; }
    seen += Number(more.querySelector('progress').value);
    const rows = more.querySelector('tbody');
    const body = first.querySelector('tbody');
    if (rows !== null && body !== null) body.append(...rows.children);
    else if (rows !== null) first.querySelector('.empty').replaceWith(rows.closest('table'));
    else if (body === null) first.querySelector('.empty').replaceWith(more.querySelector('.empty'));
    const count = first.querySelectorAll('tbody tr').length;
    say(first, count, seen, more);
    first.querySelector('.pager').replaceWith(more.querySelector('.pager'));
    if (more.dataset.rest) first.dataset.rest = more.dataset.rest; else delete first.dataset.rest;
  }
  if (bar !== null) bar.hidden = true;
}

function say(section, count, seen, more) {
  const status = section.querySelector('[role=status]');
  const start = Number(section.dataset.at);
  const range = count === 0 ? 'No key' : `${(start + 1).toLocaleString('en')}–${(start + count).toLocaleString('en')}`;
  const strong = document.createElement('b');
  strong.textContent = range;
  const soft = document.createElement('span');
  soft.className = 'soft';
  const all = Number(more.querySelector('progress').max);
  const of = more.querySelector('progress').hasAttribute('max') ? ` of ${all.toLocaleString('en')}` : '';
  soft.textContent = ` · ${seen.toLocaleString('en')}${of} keys looked at${more.dataset.rest ? ', searching on …' : ''}`;
  status.replaceChildren(strong, soft);
}

function fail(found) {
  const message = found.querySelector('.error')?.textContent ?? 'The keys could not be read.';
  results().querySelector('[role=status]').textContent = message;
}

async function run(work) {
  if (asking !== null) asking.abort();
  const mine = asking = new AbortController();
  results().setAttribute('aria-busy', 'true');
  try {
    await work(mine.signal);
  } catch (error) {
    if (!mine.signal.aborted) results().querySelector('[role=status]').textContent = 'The keys could not be read.';
  } finally {
    if (asking === mine) { asking = null; results().removeAttribute('aria-busy'); }
  }
}

form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(filter, PAUSE); });
form.addEventListener('submit', () => { clearTimeout(timer); asking?.abort(); });
addEventListener('pagehide', () => asking?.abort());
if (results().dataset.rest) run(fill);
