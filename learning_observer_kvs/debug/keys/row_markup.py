"""The rows of a list of keys as HTML. A macro of a template takes some times as long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup, escape

from learning_observer_kvs.debug import units
from learning_observer_kvs.debug.markup import Links, cut, marked
from learning_observer_kvs.queries.kept import STUDENT
from learning_observer_kvs.queries.scope import DOCUMENT

HIDDEN = '"(hidden)"'
"""The beginning of a value that is masked."""

NOTHING = '<span class="soft">–</span>'


class KeyRows:
    """Makes the rows.

    Args:
        link: makes links.
    """

    def __init__(self, link: Links) -> None:
        self._link = link

    def __call__(self, store: str, rows: Iterable[Mapping[str, Any]], needle: str, names: Mapping[str, str]) -> Markup:
        """Return the rows of keys.

        Args:
            store: the store's name.
            rows: the keys, as :func:`~learning_observer_kvs.debug.keys.rows.rows_view` returns them.
            needle: the text that is marked; ``''`` for none.
            names: short names of reducers.
        """
        return Markup(''.join(self._row(store, row, needle, names) for row in rows))

    def _row(self, store: str, row: Mapping[str, Any], needle: str, names: Mapping[str, str]) -> str:
        key, reducer = row['key'], row['reducer']
        if reducer:
            state, title = row['state'], cut(key, 300)
            text = marked(cut(names.get(reducer, reducer), 200), needle)
            cells = (
                f'<td class="state"><span class="tag {state.lower()}">{state}</span></td>\n'
                f'<td class="mono key">{self._link(text, "kvs_debug_key", store, {"key": key}, "open", title)}\n'
                f'{"".join(_fields(row["fields"], needle))}</td>\n'
                f'{self._who("student", row["fields"].get(STUDENT), needle)}'
                f'{self._who("document", row["fields"].get(DOCUMENT.name), needle)}'
            )
        else:
            text = marked(cut(key, 500), needle)
            cells = (
                '<td class="state none soft">–</td>\n<td class="mono key" colspan="3">'
                f'{self._link(text, "kvs_debug_key", store, {"key": key}, "open")}</td>\n'
            )
        return f'<tr>\n{cells}{_size(row)}{_written(row["written"])}{_value(row, needle)}</tr>\n'

    def _who(self, field: str, name: str | None, needle: str) -> str:
        """The cell of a student or a document."""
        text = marked(cut(name, 100), needle) if name is not None else ''
        link = '' if name is None else self._link(text, f'kvs_debug_{field}', None, {field: name})
        return f'<td class="who" data-name="{field.capitalize()}">{link}</td>\n'


def _fields(fields: Mapping[str, str], needle: str) -> Iterable[str]:
    for name, value in fields.items():
        if name not in (STUDENT, DOCUMENT.name):
            short = escape(name.removeprefix('EventField.'))
            yield f'<span class="field"><b>{short}</b> {marked(cut(value, 100), needle)}</span>'


def _size(row: Mapping[str, Any]) -> str:
    if row['bytes'] is None:
        return '<td class="number soft">–</td>\n'
    expires = '' if row['expires_in'] is None else f', expires in {row["expires_in"]:.0f} s'
    return f'<td class="number" title="{row["bytes"]:,} bytes{expires}">{units.size(row["bytes"])}</td>\n'


def _written(at: float | None) -> str:
    if at is None:
        return f'<td class="number written">{NOTHING}</td>\n'
    return (
        f'<td class="number written"><time datetime="{units.iso(at)}" title="{units.moment(at)}">'
        f'{units.short_moment(at)}</time></td>\n'
    )


def _value(row: Mapping[str, Any], needle: str) -> str:
    found = ' class="found"' if needle else ''
    if row['preview'] is None or row['preview'] == HIDDEN:
        shown = f'<span class="soft">{escape("hidden" if row["preview"] else row["note"] or "–")}</span>'
    else:
        shown = str(marked(row['preview'], needle))
    return f'<td class="mono value"><div{found}>{shown}</div></td>\n'
