"""Links and marked texts as HTML. Pages have hundreds, and a macro of a template takes some times as long."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from markupsafe import Markup, escape

from learning_observer_kvs.debug import units
from learning_observer_kvs.debug.parameters import MAX_URL, fits_url, query_of

PIECE = 1 << 15
"""How many characters of a long text are escaped in one call."""


def cut(text: str, most: int) -> str:
    """Return the beginning of a text, with the length of the whole if it is longer.

    Args:
        text: any text.
        most: how many characters are shown.
    """
    return text if len(text) <= most else f'{text[:most]}… ({len(text):,} characters)'


def marked(text: str, needle: str) -> Markup:
    """Return a text in which each place that has another one is marked.

    Args:
        text: the text.
        needle: what is marked; ``''`` for nothing.
    """
    if not needle:
        return escape(text)
    parts = units.split_at(text, needle)
    return Markup('').join(Markup('<mark>{}</mark>').format(part) if is_it else part for part, is_it in parts)


def step_text(step: Any) -> str:
    """Return a step of a path, or a list of them, as scripts read it.

    Args:
        step: the step.
    """
    return str(step) if type(step) is int else json.dumps(step)


def percent_encoded(value: object) -> Markup:
    """Return a value as a form of the pages sends it.

    Args:
        value: the value.
    """
    return Markup(''.join(query_of({'': piece})[1:] for piece in _pieces(str(value))))


def whole(text: str) -> Markup:
    """Return a long text as HTML.

    Args:
        text: the text.
    """
    return Markup(''.join(map(escape, _pieces(text))))


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces, because other threads wait for each call."""
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]


class Links:
    """Makes links.

    Args:
        url: makes the URL of a route: from its name, a store's name, and the query.
    """

    def __init__(self, url: Callable[..., str]) -> None:
        self._url = url

    def __call__(
        self,
        text: str,
        name: str,
        store: str | None,
        query: Mapping[str, Any],
        css_class: str = '',
        title: str = '',
        is_current: bool = False,
    ) -> Markup:
        """Return a link. What is too long for a URL is sent by a form.

        It is percent-encoded already, because browsers change line ends.

        Args:
            text: what is shown; a text, or HTML that was made here.
            name: the name of the route.
            store: the store's name, where the route has one.
            query: the parameters; what is ``None`` is left out.
            css_class: its class, if it has one.
            title: its title, if it has one.
            is_current: whether it is the current item of a list.
        """
        given = {field: str(value) for field, value in query.items() if value is not None}
        address = self._url(name, store, **given) if fits_url(given) else None
        rest = f' title="{escape(title)}"' if title else ''
        if is_current:
            rest += ' aria-current="true"'
        if address is not None and len(address) <= MAX_URL:
            kind = f'class="{css_class}" ' if css_class else ''
            return Markup(f'<a {kind}href="{escape(address)}"{rest}>{escape(text)}</a>')
        fields = ''.join(
            f'<input type="hidden" name="{escape(field)}" value="{percent_encoded(value)}">'
            for field, value in given.items()
        )
        return Markup(
            f'<form class="link" method="post" enctype="text/plain" action="{escape(self._url(name, store))}">{fields}'
            f'<button class="{css_class or "plain"}"{rest}>{escape(text)}</button></form>'
        )
