"""What there is about one student as one HTML page: without scripts, and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.privacy.exporting import Export

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What the page may load: its own style sheet alone."""

_STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } th, td { text-align: left; vertical-align: top; padding: .1em .8em .1em 0; }
th { font-weight: normal; color: #666; } section { border-top: 1px solid #ccc; margin-top: 1.5em; }
summary { cursor: pointer; } dt { color: #666; } dd { margin: 0 0 .3em 1.5em; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; } li { margin: .2em 0; }
"""


def page(found: Export) -> bytes:
    """Return the page.

    Args:
        found: the data.
    """
    return '\n'.join(_lines(found)).encode('utf-8', 'backslashreplace')


def _lines(found: Export) -> Iterator[str]:
    name = _text(found.student)
    yield '<!DOCTYPE html>'
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    yield '<meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">'
    yield f'<title>Data of {name}</title><style>{_STYLE}</style></head><body>'
    yield f'<h1>Data of {name}</h1>'
    yield f'<p>Made on {_text(found.made)}.'
    if found.aliases:
        yield f' Also searched for: {", ".join(map(_text, found.aliases))}.'
    yield '</p>'
    for text in found.not_reached:
        yield f'<p>Not searched: {_text(text)}</p>'
    if found.possible_aliases:
        yield f'<p>Also called, and not searched for: {", ".join(map(_text, found.possible_aliases))}.</p>'
    yield f'<h2>What programs computed from the writing ({len(found.states):,})</h2>'
    for state in found.states:
        fields = state['fields']
        rows = {'store': state['store'], 'state': state['state'], **fields, 'written': state['written'] or 'not known'}
        yield from _section(state['reducer'], rows, state['value'])
    yield f'<h2>Entries in other data ({len(found.entries):,})</h2>'
    for entry in found.entries:
        rows = {'store': entry['store'], 'place': entry['path'] or 'the whole entry', 'written': entry['written']}
        yield from _section(entry['key'], rows, entry['value'])
    yield f'<h2>Recorded events ({sum(map(len, found.events.values())):,})</h2>'
    for path, events in found.events.items():
        yield f'<section><h3>{_text(path)}</h3>'
        for number, event in enumerate(events, 1):
            yield f'<details><summary>Event {number:,}</summary>{_value(event)}</details>'
        yield '</section>'
    yield '</body></html>'


def _section(title: JSON, rows: dict[str, JSON], value: JSON) -> Iterator[str]:
    yield f'<section><h3>{_text(title)}</h3><table>'
    for name, cell in rows.items():
        yield f'<tr><th>{_text(name)}</th><td>{_text("not known" if cell is None else cell)}</td></tr>'
    yield f'</table>{_value(value)}</section>'


def _value(value: JSON) -> str:
    """A value as nested lists, whatever its depth."""
    made: list[str] = []
    waiting: list[JSON | _Markup] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _Markup):
            made.append(item.text)
        elif isinstance(item, dict) and item:
            inside: list[JSON | _Markup] = [_Markup('<dl>')]
            for name, inner in item.items():
                inside += [_Markup(f'<dt>{_text(name)}</dt><dd>'), inner, _Markup('</dd>')]
            waiting += reversed([*inside, _Markup('</dl>')])
        elif isinstance(item, list) and item:
            inside = [_Markup('<ol>')]
            for inner in item:
                inside += [_Markup('<li>'), inner, _Markup('</li>')]
            waiting += reversed([*inside, _Markup('</ol>')])
        else:
            made.append(f'<span class="text">{_text(_plain(item))}</span>')
    return ''.join(made)


class _Markup:
    """Markup among values."""

    def __init__(self, text: str) -> None:
        self.text = text


def _plain(value: JSON) -> str:
    if value is None or isinstance(value, bool):
        return {None: '—', True: 'yes', False: 'no'}[value]
    return str(value) if value not in ({}, []) else '(empty)'


def _text(value: JSON) -> str:
    return escape(str(value))
