// The page of a class: is read again when a state changes; the cells that are others than before light up.

import { errorOf, follow, pageOf } from './live.js';

const cells = (table) => new Map([...table.querySelectorAll('td[data-column]')].map((cell) => [
  `${cell.parentElement.dataset.row} ${cell.dataset.column}`, cell,
]));

follow(document.getElementById('live'), async (say, isPaused) => {
  const link = Object.assign(document.createElement('a'), { href: location.href });
  const [status, page] = await pageOf(link);
  if (isPaused()) return;
  if (status !== 200) { say(`Not live: ${errorOf(status, page)}`, 'lost'); return; }
  const before = document.getElementById('class');
  const after = document.adoptNode(page.getElementById('class'));
  const old = cells(before);
  const lit = [...cells(after)].filter(([place, cell]) => old.get(place)?.textContent !== cell.textContent);
  const isSame = lit.length === 0 && before.textContent === after.textContent;
  if (isSame) return;
  const focused = before.contains(document.activeElement) ? document.activeElement.closest('td, th') : null;
  const at = focused === null ? null : [focused.parentElement.dataset.row, focused.cellIndex];
  before.replaceWith(after);
  for (const [, cell] of lit) cell.classList.add('lit');
  if (at !== null) {
    const row = [...after.querySelectorAll('tr')].find((each) => each.dataset.row === at[0]);
    row?.cells[at[1]]?.querySelector('a, button')?.focus();
  }
  say(`Changed at ${new Date().toLocaleTimeString('en-GB')}: ${lit.length} ${lit.length === 1 ? 'cell' : 'cells'}`);
});
