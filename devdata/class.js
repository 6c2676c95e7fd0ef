// The class page. What students wrote is set as text only, never as markup.

const WRITING = 4; // seconds since the last change of the text
const PAUSING = 60;
const SAMPLES = 60; // points of a word curve, one every two seconds

const $ = (selector, within = document) => within.querySelector(selector);
const students = new Map(); // by id: the row that the server sent, and what this page adds to it

// Messages of the server

listen();

function listen() {
  const source = new EventSource('class/changes');
  source.addEventListener('everything', (event) => {
    replaceAll(JSON.parse(event.data));
    link('live', 'live'); // from here on no change is missed
  });
  source.addEventListener('changed', (event) => applyChanges(JSON.parse(event.data)));
  source.addEventListener('error', () => {
    link('waiting', 'reconnecting');
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(listen, 1000); // the browser does not retry if the server does not respond
    }
  });
}

function link(state, words) {
  $('#link').dataset.link = state;
  $('#link').textContent = words;
}

function replaceAll(rows) {
  const here = new Set(rows.map((row) => row.student));
  for (const [id, student] of students) {
    if (!here.has(id)) {
      student.card.remove();
      students.delete(id);
    }
  }
  rows.forEach((row) => update(row, false));
  arrange();
}

function applyChanges(rows) {
  const before = students.size;
  rows.forEach((row) => update(row, true));
  if (students.size !== before) {
    arrange();
  }
}

function update(row, live) {
  const student = students.get(row.student) ?? addStudent(row);
  const before = current(student);
  if (student.current !== row.current) {
    student.curve = [];
  }
  student.seconds = row.seconds;
  student.current = row.current;
  for (const [id, document] of Object.entries(row.documents)) {
    student.documents.set(id, { ...document, before: student.documents.get(id)?.text ?? document.text });
  }
  student.words = current(student)?.words ?? 0;
  if (live && before?.text !== current(student)?.text) {
    student.touched = Date.now();
  }
  show(student);
}

function current(student) {
  return student.documents.get(student.current);
}

// Cards

function addStudent(row) {
  const card = $('#card').content.firstElementChild.cloneNode(true);
  const student = { id: row.student, documents: new Map(), curve: [], touched: 0, card };
  let hue = 0;
  for (const letter of row.student) {
    hue = (hue * 31 + letter.codePointAt(0)) % 360;
  }
  student.hue = (hue * 137) % 360;
  student.initials = row.student.match(/\d+$/)?.[0].slice(-2) ?? row.student.slice(0, 2).toUpperCase();
  card.style.setProperty('--hue', student.hue);
  $('.face', card).textContent = student.initials;
  $('.open', card).textContent = student.id;
  $('.open', card).addEventListener('click', () => read(student));
  $('.text', card).addEventListener('scroll', (event) => edges(event.target));
  students.set(student.id, student);
  return student;
}

function state(student) {
  const seconds = (Date.now() - student.touched) / 1000;
  if (!student.touched) return '';
  return seconds < WRITING ? 'writing' : seconds < PAUSING ? 'pausing' : 'away';
}

const waiting = new Set();

function show(student) {
  if (!waiting.size) {
    requestAnimationFrame(() => {
      for (const each of waiting) {
        draw(each);
      }
      waiting.clear();
      sums();
    });
  }
  waiting.add(student);
}

function draw(student) {
  const { card } = student;
  const document = current(student);
  const box = $('.text', card);
  $('.title', card).textContent = $('.title', card).title = document?.title || 'Untitled';
  showFacts(card, student, document);
  const many = student.documents.size;
  $('.more', card).textContent = many > 1 ? ` · ${many} docs` : '';
  if (document && (document !== student.drawn)) {
    const caret = write(box, document);
    box.scrollTop = Math.max(0, caret.offsetTop - box.clientHeight * 0.66);
    student.drawn = document;
    edges(box);
  }
  if (reader.student === student) {
    refreshReader();
  }
}

function showFacts(box, student, document) {
  box.dataset.state = state(student);
  $('.state', box).textContent = state(student);
  const words = document?.words ?? 0;
  $('.words', box).textContent = words.toLocaleString('en');
  $('.words', box).nextSibling.data = words === 1 ? ' word' : ' words';
  $('.time', box).textContent = clock(student.seconds);
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const pad = (number) => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

// Shows a text, with its new part marked and the caret after that part.
function write(box, { text, before }) {
  const [first, end] = changed(before, text);
  const caret = element('span', 'caret');
  const parts = [text.slice(0, first), element('mark', 'fresh', text.slice(first, end)), caret, text.slice(end)];
  box.replaceChildren(...(text ? parts : []));
  return caret;
}

// Where a text differs from the one before: from its first new character to after the last, never within a surrogate
// pair.
function changed(before, text) {
  if (before === text) return [text.length, text.length];
  const most = Math.min(before.length, text.length);
  let first = 0;
  while (first < most && before[first] === text[first]) first++;
  let same = 0;
  while (same < most - first && before[before.length - 1 - same] === text[text.length - 1 - same]) same++;
  if (/[\ud800-\udbff]$/.test(text.slice(0, first))) first--;
  if (/^[\udc00-\udfff]/.test(text.slice(text.length - same))) same--;
  return [first, text.length - same];
}

function element(name, kind, text = '') {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function edges(box) {
  box.classList.toggle('more-above', box.scrollTop > 4);
  box.classList.toggle('more-below', box.scrollTop + box.clientHeight < box.scrollHeight - 4);
}

function curve(student) {
  student.curve.push(student.words);
  student.curve.splice(0, student.curve.length - SAMPLES);
  const [least, most] = [student.curve[0], Math.max(...student.curve)];
  const points = student.curve.map((words, index) => {
    const height = most > least ? (Math.max(words, least) - least) / (most - least) : 0;
    return `${(index + SAMPLES - student.curve.length).toFixed(0)},${(15 - 13 * height).toFixed(2)}`;
  });
  $('.line', student.card).setAttribute('d', `M${points.join('L')}`);
  $('.area', student.card).setAttribute('d', `M${SAMPLES - student.curve.length},16L${points.join('L')}L${SAMPLES - 1},16Z`);
}

// The class

function sums() {
  const all = [...students.values()];
  const set = (id, number) => { $(id).textContent = number.toLocaleString('en'); };
  set('#sum-students', all.length);
  set('#sum-writing', all.filter((student) => state(student) === 'writing').length);
  set('#sum-words', all.flatMap((student) => [...student.documents.values()]).reduce((sum, { words }) => sum + words, 0));
  $('#empty').hidden = all.length > 0;
}

function arrange() {
  const by = $('#order').value;
  const byName = (a, b) => a.id.localeCompare(b.id, 'en', { numeric: true });
  const order = [...students.values()].sort((a, b) => (by === 'name' ? 0 : b[by] - a[by]) || byName(a, b));
  const list = $('#class');
  order.forEach((student, index) => {
    if (list.children[index] !== student.card) {
      list.insertBefore(student.card, list.children[index] ?? null);
    }
  });
  sums();
}

$('#order').addEventListener('change', arrange);

setInterval(() => {
  for (const student of students.values()) {
    showFacts(student.card, student, current(student));
    edges($('.text', student.card));
  }
  sums();
}, 500);

setInterval(() => {
  for (const student of students.values()) {
    curve(student);
  }
  if (!$('#class').contains(document.activeElement)) {
    arrange();
  }
}, 2000);

// Reading the whole text of a student

const reader = { dialog: $('#reader'), student: null, document: null };

function read(student) {
  Object.assign(reader, { student, document: null });
  reader.dialog.style.setProperty('--hue', student.hue);
  $('.face', reader.dialog).textContent = student.initials;
  $('#reader-who').textContent = student.id;
  refreshReader();
  reader.dialog.showModal();
  $('.text', reader.dialog).scrollTop = 0;
}

function refreshReader() {
  const { dialog, student } = reader;
  const id = reader.document ?? student.current;
  const document = student.documents.get(id);
  if (document && document !== reader.drawn) {
    write($('.text', dialog), document);
    reader.drawn = document;
  }
  $('.title', dialog).textContent = document?.title || 'Untitled';
  showFacts(dialog, student, document);
  const buttons = [...student.documents].map(([each, { title }]) => {
    const button = element('button', '', title || 'Untitled');
    button.setAttribute('aria-pressed', each === id);
    button.dataset.document = each;
    return button;
  });
  const bar = $('.documents', dialog);
  const before = [...bar.children].map((button) => button.outerHTML).join();
  if (before !== buttons.map((button) => button.outerHTML).join()) {
    bar.replaceChildren(...(buttons.length > 1 ? buttons : []));
  }
}

$('.documents', reader.dialog).addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) {
    reader.document = button.dataset.document;
    refreshReader();
    $(`[data-document="${CSS.escape(reader.document)}"]`, reader.dialog)?.focus();
  }
});
reader.dialog.addEventListener('close', () => Object.assign(reader, { student: null, document: null, drawn: null }));
