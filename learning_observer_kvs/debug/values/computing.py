"""What is computed of the text of a value: of a large one in a helper process, so that nothing else waits for it.

Each function takes what it needs and no more, and returns what is shown and no more.
"""

from __future__ import annotations

import contextlib
from typing import Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.offload.frames import in_chunks
from learning_observer_kvs.debug.paths import Path
from learning_observer_kvs.debug.values import nodes
from learning_observer_kvs.debug.values import search as value_search
from learning_observer_kvs.debug.values.text_masking import masked_part, masked_text
from learning_observer_kvs.debug.views import NotFound
from learning_observer_kvs.errors import CorruptValue

Stored = tuple[str, bytes]
"""A key and its stored text."""


class TooDeep(CorruptValue):
    """The value is JSON, and nests deeper than its parts can be shown."""


def masked_json(key: str, text: bytes, mask: Mask) -> tuple[list[bytes], bool]:
    """Return the JSON text of a value, masked.

    Args:
        key: its key.
        text: the stored text.
        mask: what is not shown.

    Returns:
        The text in pieces, and whether anything in it is masked.

    Raises:
        CorruptValue: it is not JSON; the message is the rest of a sentence.
    """
    try:
        shown, is_masked = masked_text(key, text, mask)
    except CorruptValue:  # or it nests too deep to be taken apart
        view = mask.applied_to({'key': key, 'value': json_codec.decode(text)})
        shown, is_masked = as_json(view['value']), view['masked']
    return in_chunks(shown), is_masked


def opened(sides: list[Stored], mask: Mask) -> tuple[list[nodes.Node | CorruptValue], bool]:
    """Return values as nodes, with what is open of each at first.

    Args:
        sides: a value, and perhaps another that it is compared with.
        mask: what is not shown.

    Returns:
        A node for each, or why there is none; and whether two were compared.
    """
    found: list[nodes.Node | CorruptValue] = []
    for key, text in sides:
        try:
            found.append(nodes.open_from(nodes.root_of(key, text, mask), mask))
        except CorruptValue as error:
            found.append(_reason(text, error))
    match found:
        case [nodes.Node() as one, nodes.Node() as other]:
            return found, nodes.compare(one, other)
    return found, False


def part(value: Stored, other: Stored | None, path: Path, start: int, mask: Mask) -> nodes.Node:
    """Return a part of a value.

    Args:
        value: the value.
        other: what it is compared with, or ``None``.
        path: where the part is.
        start: the first of its items, or characters, that is sent.
        mask: what is not shown.

    Raises:
        NotFound: there is no such part, or it is not shown.
        CorruptValue: the value is not JSON; the message is the rest of a sentence, but of :class:`TooDeep`.
    """
    node = _part(value, path, mask)
    try:
        nodes.open_from(node, mask, start)
    except CorruptValue as error:
        raise _reason(value[1], error) from None
    if other is not None:
        with contextlib.suppress(NotFound, CorruptValue):  # it has no such part, which is marked where the two differ
            nodes.compare(node, nodes.open_from(_part(other, path, mask), mask, start))
    return node


def matches(value: Stored, text: str, mask: Mask) -> tuple[list[dict[str, Any]], bool]:
    """Return where a value has a text.

    Args:
        value: the value.
        text: the text.
        mask: what is not searched.

    Returns:
        The matches, as :func:`~learning_observer_kvs.debug.values.search.as_json` returns them, and whether all of the
        value was searched.

    Raises:
        CorruptValue: as for :func:`part`.
    """
    found, is_complete = value_search.matches(_part(value, (), mask), text, mask)
    return [value_search.as_json(match) for match in found], is_complete


def raw(value: Stored, path: Path, mask: Mask) -> list[bytes]:
    """Return a value, or a part of it, as JSON text and nothing else.

    Args:
        value: the value.
        path: where the part is.
        mask: what is not shown.

    Returns:
        The text in pieces.

    Raises:
        NotFound: there is no such part, or it is not shown.
        CorruptValue: as for :func:`part`.
    """
    node = _part(value, path, mask)
    return in_chunks(as_json(node.value) if node.is_hidden else masked_part(node.text, mask)[0])


def _part(value: Stored, path: Path, mask: Mask) -> nodes.Node:
    key, text = value
    try:
        return nodes.node_at(nodes.root_of(key, text, mask), path, mask)
    except CorruptValue as error:
        raise _reason(text, error) from None


def _reason(text: bytes, error: CorruptValue) -> CorruptValue:
    """Why a value is not shown: it is not JSON, or it is and nests too deep."""
    try:
        json_codec.decode(text)
    except CorruptValue:
        return error
    return TooDeep('The value nests too deep to be shown.')
