"""The data of a view as HTML. It is made in a thread, because values may be large."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from learning_observer_kvs.debug import parameters, paths, units

if TYPE_CHECKING:
    import jinja2


PIECE = 1 << 16
"""How many characters of a page are encoded in one call, and no more than one text besides."""


class Templates:
    """The pages as HTML.

    Args:
        url: makes the URL of a route: from its name, a store's name, and the query.

    Attributes:
        server: what serves the pages, for their head.
    """

    def __init__(self, url: Callable[..., str]) -> None:
        self._url = url
        self.server: dict[str, Any] = {}

    @functools.cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2  # slow to import, and not needed by servers without these pages

        from learning_observer_kvs.debug import markup
        from learning_observer_kvs.debug.keys import row_markup
        from learning_observer_kvs.debug.values import tree

        templates = jinja2.Environment(
            loader=jinja2.PackageLoader('learning_observer_kvs.debug'),
            autoescape=True,
            auto_reload=False,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        link = markup.Links(self._url)
        templates.globals |= {'url': self._url, 'link': link, 'percent_encoded': markup.percent_encoded}
        templates.globals |= {'MAX_URL': parameters.MAX_URL, 'part_of': paths.Place, 'size_of': tree.size_of}
        templates.globals |= {'tree': tree.Trees(link), 'key_rows': row_markup.KeyRows(link)}
        templates.filters['path_text'] = paths.path_text
        templates.filters['path_shown'] = paths.shown
        templates.filters['step_text'] = markup.step_text
        templates.filters['cut'] = markup.cut
        templates.filters['whole'] = markup.whole
        templates.filters['by_document'] = by_document
        templates.filters['by_keys'] = by_keys
        templates.filters |= units.FILTERS
        return templates

    def render(self, template: str, data: Mapping[str, Any]) -> list[bytes]:
        """Return the data of a view as a page.

        Args:
            template: the file name of the template.
            data: the data.

        Returns:
            The page in UTF-8, in pieces: in one call for a page of many MB other threads would wait.
        """
        pieces: list[bytes] = []
        texts: list[str] = []
        characters = 0
        for text in self._templates.get_template(template).generate({'server': self.server, **data}):
            texts.append(text)
            characters += len(text)
            if characters > PIECE:
                pieces.append(_encoded(texts))
                texts, characters = [], 0
        return [*pieces, _encoded(texts)]


def _encoded(texts: list[str]) -> bytes:
    return ''.join(texts).encode('utf-8', 'backslashreplace')


def by_document(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return states in groups, one for each document.

    Args:
        states: the states of a view, sorted by document.

    Returns:
        ``{'document', 'states'}`` for each; the document of states that are not kept by document is ``None``.
    """
    groups = itertools.groupby(states, lambda state: state['fields'].get('EventField.doc_id'))
    return [{'document': document, 'states': list(group)} for document, group in groups]


def by_keys(reducers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return reducers with the number of all their keys, those with most first.

    Args:
        reducers: ``{'name', 'internal', 'external', …}`` each.

    Returns:
        The same, with ``all`` added to each.
    """
    counted = [{**reducer, 'all': reducer['internal'] + reducer['external']} for reducer in reducers]
    return sorted(counted, key=lambda reducer: -reducer['all'])
