// Shows a value as it changes: an event stream says when, and the page is then read again. What is new lights up.

const box = document.getElementById('live');
const state = box.querySelector('[role=status]');
const button = box.querySelector('button');
let source = null;
let isPaused = false;
let isReading = false;
let isDue = false;
let retry = 0;

function say(text, kind) {
  state.textContent = text;
  box.dataset.kind = kind;
}

function open() {
  if (source !== null || isPaused || document.hidden) return;
  clearTimeout(retry);
  source = new EventSource(box.dataset.stream);
  source.addEventListener('opened', () => { say('Live', 'live'); read(); });
  source.addEventListener('changed', read);
  source.addEventListener('lost', () => say('Changes cannot be seen at the moment', 'lost'));
  source.onerror = () => {
    say('Not live: the server does not send changes', 'lost');
    if (source.readyState === EventSource.CLOSED) {  // it was refused; try again later
      close();
      retry = setTimeout(open, 10000);
    }
  };
}

function close() {
  if (source !== null) source.close();
  source = null;
  clearTimeout(retry);
}

async function read() {
  isDue = true;
  if (isReading) return;  // what changes meanwhile is read together
  isReading = true;
  try {
    while (isDue && !isPaused) {
      isDue = false;
      const answer = await fetch(location.href, { headers: { Accept: 'text/html' }, redirect: 'error' });
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      if (!isPaused) show(answer.status, page);
    }
  } catch {
    say('Not live: the page could not be read again', 'lost');
  } finally {
    isReading = false;
  }
}

function show(status, page) {
  const at = new Date().toLocaleTimeString();
  if (status === 404) {
    document.getElementById('value').classList.add('gone');
    say(`The key is not there any more since ${at}`, 'lost');
    return;
  }
  if (status !== 200) {
    const error = page.querySelector('.error');
    say(`Not live: ${error ? error.textContent : status}`, 'lost');
    return;
  }
  const value = document.getElementById('value');
  const before = text(value);
  const after = text(page.getElementById('value'));
  const wasGone = value.classList.contains('gone');
  document.getElementById('facts').replaceWith(document.adoptNode(page.getElementById('facts')));
  if (before === after && !wasGone) return;
  value.replaceWith(document.adoptNode(page.getElementById('value')));
  const pre = document.querySelector('#value pre');
  const count = pre === null ? 0 : light(pre, before.split('\n'), after.split('\n'));
  say(`Changed at ${at}: ${count} ${count === 1 ? 'line is' : 'lines are'} new`, 'live');
}

function text(value) {
  const pre = value.querySelector('pre');
  return pre === null ? value.textContent : pre.textContent;
}

// Marks the lines that were not there before. A comma at the end of a line says only that another follows.
function light(pre, before, after) {
  const same = (a, b) => a.replace(/,$/, '') === b.replace(/,$/, '');
  let start = 0;
  while (start < before.length && start < after.length && same(before[start], after[start])) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && same(before.at(-1 - end), after.at(-1 - end))) end++;
  const middle = after.slice(start, after.length - end);
  const isNew = added(before.slice(start, before.length - end), middle, same);
  const parts = [];
  let count = 0;
  const plain = (lines) => lines.map((line) => `${line}\n`).join('');
  parts.push(plain(after.slice(0, start)));
  middle.forEach((line, index) => {
    if (!isNew[index]) { parts.push(`${line}\n`); return; }
    const mark = document.createElement('mark');
    mark.textContent = line;
    parts.push(mark, '\n');
    count++;
  });
  parts.push(plain(after.slice(after.length - end)).replace(/\n$/, ''));
  pre.replaceChildren(...parts);
  return count;
}

// Which lines of the second text are not in a longest common subsequence with the first; all, where that takes long.
function added(one, two, same) {
  const isNew = new Array(two.length).fill(true);
  if (one.length * two.length > 1e6) return isNew;
  const width = two.length + 1;
  const longest = new Uint32Array((one.length + 1) * width);
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = two.length - 1; j >= 0; j--) {
      longest[i * width + j] = same(one[i], two[j])
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  for (let i = 0, j = 0; i < one.length && j < two.length;) {
    if (same(one[i], two[j])) { isNew[j] = false; i++; j++; }
    else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++;
    else j++;
  }
  return isNew;
}

button.addEventListener('click', () => {
  isPaused = !isPaused;
  button.textContent = isPaused ? 'Go on' : 'Pause';
  if (isPaused) { close(); say('Paused', 'paused'); } else { say('Connecting …', 'paused'); open(); }
});
document.addEventListener('visibilitychange', () => { if (document.hidden) close(); else open(); });
addEventListener('pagehide', close);
addEventListener('pageshow', open);
box.hidden = false;
open();
