// Follows a stream that says when something changed, and calls back each time: one call at a time, and none while the
// page is paused or hidden. What the box says is read out.

export function follow(box, onChange) {
  const state = box.querySelector('[role=status]');
  const button = box.querySelector('button');
  let source = null;
  let isPaused = false;
  let isReading = false;
  let isDue = false;
  let retry = 0;

  function say(text, kind = 'live') {
    state.textContent = text;
    box.dataset.kind = kind;
  }

  function open() {
    if (source !== null || isPaused || document.hidden) return;
    clearTimeout(retry);
    source = new EventSource(box.dataset.stream);
    source.addEventListener('opened', () => { say('Live'); read(); });
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
        await onChange(say, () => isPaused);
      }
    } catch {
      say('Not live: the page could not be read again', 'lost');
    } finally {
      isReading = false;
    }
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
}

// Reads a page of a link, or of the form that stands for a link that is too long.
export async function pageOf(element, more = {}) {
  const answer = await ask(element, more, 'text/html');
  return [answer.status, new DOMParser().parseFromString(await answer.text(), 'text/html')];
}

export function ask(element, more, accept) {
  const headers = { Accept: accept };
  if (element.localName !== 'form') {
    const url = new URL(element.href);
    for (const [name, value] of Object.entries(more)) url.searchParams.set(name, value);
    return fetch(url, { headers, redirect: 'error' });  // to a page where one logs in, say
  }
  const fields = [...element.querySelectorAll('input[type=hidden]')].map((input) => `${input.name}=${input.value}`);
  for (const [name, value] of Object.entries(more)) fields.push(`${name}=${encodeURIComponent(value)}`);
  return fetch(element.action, { method: 'POST', headers, body: fields.join('\r\n') });
}

export const errorOf = (status, page) => page.querySelector('.error')?.textContent ?? `the server answered ${status}`;
