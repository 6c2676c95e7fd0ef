// The keyboard: / goes to the box, the arrows go through the rows, ? says so. Enter is the browser's own.

const KEYS = [
  ['/', 'search box'],
  ['↓ ↑', 'next, previous row'],
  ['Enter', 'open it'],
  ['n p', 'next, previous page'],
  ['Esc', 'leave the box'],
  ['?', 'this list'],
];

const box = () => document.querySelector('[role=search] input:not([type=hidden])');
const row = (element) => element.closest('tbody tr, .names li, .stores > li');
const rows = () => [...document.querySelectorAll('main tbody tr, .names li, .stores > li')]
  .filter((each) => row(each.parentElement) === null)
  .map((each) => each.querySelector('.open, h2 a, a, button')).filter((link) => link !== null);

function help() {
  let dialog = document.querySelector('dialog.help');
  if (dialog === null) {
    dialog = document.createElement('dialog');
    dialog.className = 'help';
    dialog.setAttribute('aria-labelledby', 'help');
    const title = document.createElement('h2');
    title.id = 'help';
    title.textContent = 'Keyboard';
    const list = document.createElement('dl');
    for (const [keys, means] of KEYS) {
      const term = document.createElement('dt');
      const description = document.createElement('dd');
      for (const key of keys.split(' ')) {
        const kbd = document.createElement('kbd');
        kbd.textContent = key;
        term.append(kbd, ' ');
      }
      description.textContent = means;
      list.append(term, description);
    }
    const close = document.createElement('button');
    close.textContent = 'Close';
    close.addEventListener('click', () => dialog.close());
    dialog.append(title, list, close);
    document.body.append(dialog);
  }
  if (dialog.open) dialog.close(); else dialog.showModal();
}

function move(by) {
  const all = rows();
  if (all.length === 0) return;
  const at = all.findIndex((link) => row(link) === row(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by;
  if (next < 0) { box()?.focus(); return; }
  all[Math.min(next, all.length - 1)].focus();
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link === null) return;
  (link.querySelector('button') ?? link).click();
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]:not(.help)')) return;
  const isTyping = event.target.closest('input:not([type=checkbox]), textarea, select, [contenteditable]') !== null;
  if (event.key === 'Escape' && isTyping) { event.target.blur(); return; }
  if (event.key === 'ArrowDown' && (!isTyping || event.target === box())) { event.preventDefault(); move(1); return; }
  if (isTyping) return;
  switch (event.key) {
    case 'ArrowUp': move(-1); break;
    case '/': box()?.focus(); box()?.select(); break;
    case 'n': follow('.pager .more'); break;
    case 'p': follow('.pager .previous, .pager .page'); break;
    case '?': help(); break;
    default: return;
  }
  event.preventDefault();
});

const label = document.querySelector('[role=search] label');
if (label !== null) {
  const hint = document.createElement('kbd');
  hint.textContent = '/';
  hint.setAttribute('aria-hidden', 'true');
  label.append(' ', hint);
}
