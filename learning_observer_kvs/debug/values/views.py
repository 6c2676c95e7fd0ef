"""The data of the pages of one value: what is open of it, beside the other state of the same reducer."""

from __future__ import annotations

import contextlib
from typing import Any

from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.paths import Path
from learning_observer_kvs.debug.reducer_facts import reducer_facts
from learning_observer_kvs.debug.rendering import as_json
from learning_observer_kvs.debug.values import nodes
from learning_observer_kvs.debug.values import search as value_search
from learning_observer_kvs.debug.values.text_masking import masked_part, masked_text
from learning_observer_kvs.debug.views import Found, NotFound, describe_key, value_view
from learning_observer_kvs.errors import CorruptValue


def json_body(found: Found, mask: Mask) -> bytes:
    """Return a value for programs, all of it, as JSON: the stored text is put into the answer, and not decoded.

    Args:
        found: the value.
        mask: what is not shown.

    Returns:
        :func:`~learning_observer_kvs.debug.views.value_view`, masked, with what
        :func:`~learning_observer_kvs.debug.reducer_facts.reducer_facts` knows of its reducer.
    """
    facts = reducer_facts(found.store, describe_key(found.key)['reducer'])
    text = None
    if found.shown is not None:
        with contextlib.suppress(CorruptValue):  # the view says why
            text, is_masked = masked_text(found.key, found.shown, mask)
    if text is None:
        return as_json(mask.applied_to(value_view(found)) | facts)
    head, tail = as_json(_facts(found) | {'error': None}), as_json({'masked': is_masked} | facts)
    return head[:-1] + b',"value":' + text + b',' + tail[1:]


def page_view(found: Found, other: Found | None, mask: Mask) -> dict[str, Any]:
    """Return a value for its page.

    Args:
        found: the value.
        other: the other state of the same reducer, if it is shown beside it.
        mask: what is not shown.

    Returns:
        As :func:`json_body`, with ``root`` in place of ``value``: the value as a node, or ``None`` where there is an
        error; and ``other``, the same of the other state, or ``None``; ``is_compared``, whether both are marked.
    """
    view = _side(found, mask)
    beside = None if other is None else _side(other, mask)
    is_compared = beside is not None and _compared(view['root'], beside['root'])
    return {**view, 'other': beside, 'is_compared': is_compared, **reducer_facts(found.store, view['reducer'])}


def _compared(one: nodes.Node | None, other: nodes.Node | None) -> bool:
    return one is not None and other is not None and nodes.compare(one, other)


def _side(found: Found, mask: Mask) -> dict[str, Any]:
    root = None
    view = {'error': None}
    if found.shown is not None:
        try:
            root = nodes.open_from(nodes.root_of(found.key, found.shown, mask), mask)
        except CorruptValue:
            root = None
    if root is None:
        view = mask.applied_to(value_view(found))
    return {
        **_facts(found),
        'error': None if root else view['error'] or 'The value nests too deep to be shown.',
        'raw': view.get('raw', ''),
        'root': root,
        'masked': root.has_hidden if root else view['masked'],
    }


def _facts(found: Found) -> dict[str, Any]:
    return {
        'store': found.name,
        **describe_key(found.key),
        **found.description._asdict(),
        'counterpart': found.counterpart,
    }


def part_view(found: Found, other: Found | None, path: Path, start: int, mask: Mask) -> dict[str, Any]:
    """Return a part of a value.

    Args:
        found: the value.
        other: what it is compared with, or ``None``.
        path: where the part is.
        start: the first of its items, or characters, that is sent.
        mask: what is not shown.

    Returns:
        ``{'store', 'key', 'path', 'node'}``, the node as it is.

    Raises:
        NotFound: there is no such part, or it is not shown.
        CorruptValue: the value is not JSON, or too large to be shown.
    """
    node = _part(found, path, mask)
    nodes.open_from(node, mask, start)
    if other is not None:
        with contextlib.suppress(NotFound, CorruptValue):  # it has no such part, which is marked where the two differ
            nodes.compare(node, nodes.open_from(_part(other, path, mask), mask, start))
    return {'store': found.name, 'key': found.key, 'path': list(path), 'node': node}


def _part(found: Found, path: Path, mask: Mask) -> nodes.Node:
    if found.shown is None:
        raise CorruptValue(str(value_view(found)['error']))
    try:
        return nodes.node_at(nodes.root_of(found.key, found.shown, mask), path, mask)
    except CorruptValue:
        found.store.decode(found.key, found.shown)  # raises the same with the place
        raise


def matches_view(found: Found, text: str, mask: Mask) -> dict[str, Any]:
    """Return where a value has a text.

    Args:
        found: the value.
        text: the text.
        mask: what is not searched.

    Returns:
        ``{'store', 'key', 'text', 'matches', 'is_complete'}``; each match as
        :func:`~learning_observer_kvs.debug.values.search.as_json` returns it.

    Raises:
        CorruptValue: the value is not JSON, or too large to be shown.
    """
    matches, is_complete = value_search.matches(_part(found, (), mask), text, mask)
    return {
        'store': found.name,
        'key': found.key,
        'text': text,
        'matches': [value_search.as_json(match) for match in matches],
        'is_complete': is_complete,
    }


def raw(found: Found, path: Path, mask: Mask) -> bytes:
    """Return a value, or a part of it, as JSON text and nothing else.

    Args:
        found: the value.
        path: where the part is.
        mask: what is not shown.

    Raises:
        NotFound: there is no such part, or it is not shown.
        CorruptValue: the value is not JSON, or too large to be shown.
    """
    node = _part(found, path, mask)
    if node.is_hidden:
        return as_json(node.value)
    return masked_part(node.text, mask)[0]
