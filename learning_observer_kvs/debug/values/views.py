"""The data of the pages of one value: what is open of it, beside the other state of the same reducer."""

from __future__ import annotations

from typing import Any

from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.offload.frames import in_chunks
from learning_observer_kvs.debug.reducer_facts import reducer_facts
from learning_observer_kvs.debug.values import nodes
from learning_observer_kvs.debug.values.computing import TooDeep
from learning_observer_kvs.debug.views import CORRUPT_BYTES, MAX_VALUE_BYTES, Found, describe_key
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stores.keys import corrupt


def json_body(found: Found, shown: tuple[list[bytes], bool] | CorruptValue, mask: Mask) -> list[bytes]:
    """Return a value for programs, all of it, as JSON: the stored text is put into the answer, and not decoded.

    Args:
        found: the value.
        shown: what :func:`~learning_observer_kvs.debug.values.computing.masked_json` returned or raised.
        mask: what is not shown.

    Returns:
        In pieces: ``{'store', 'key', 'state', 'reducer', 'fields', 'bytes', 'expires_in', 'written', 'counterpart',
        'error', 'value', 'masked'}``, with what :func:`~learning_observer_kvs.debug.reducer_facts.reducer_facts` knows
        of its reducer. Of a value that is not JSON, or too large, ``error`` says so and ``raw`` has the first bytes, if
        they were read; else ``error`` is ``None``.
    """
    facts = reducer_facts(found.store, describe_key(found.key)['reducer'])
    if isinstance(shown, CorruptValue):
        return in_chunks(as_json(_facts(found) | {'value': None} | failure(found, shown, mask) | facts))
    text, is_masked = shown
    head, tail = as_json(_facts(found) | {'error': None}), as_json({'masked': is_masked} | facts)
    return [head[:-1] + b',"value":', *text, b',' + tail[1:]]


def page_view(
    found: Found, root: nodes.Node | CorruptValue, other: tuple[Found, nodes.Node | CorruptValue] | None, mask: Mask
) -> dict[str, Any]:
    """Return a value for its page.

    Args:
        found: the value.
        root: the value as a node, or why there is none.
        other: likewise the other state of the same reducer, if it is shown beside it.
        mask: what is not shown.

    Returns:
        As :func:`json_body`, with ``root`` in place of ``value``: the value as a node, or ``None`` where there is an
        error; and ``other``, the same of the other state, or ``None``.
    """
    view = _side(found, root, mask)
    beside = None if other is None else _side(*other, mask)
    return {**view, 'other': beside, **reducer_facts(found.store, view['reducer'])}


def _side(found: Found, root: nodes.Node | CorruptValue, mask: Mask) -> dict[str, Any]:
    if isinstance(root, CorruptValue):
        return {'raw': '', **_facts(found), 'root': None, **failure(found, root, mask)}
    return {**_facts(found), 'error': None, 'raw': '', 'root': root, 'masked': root.has_hidden}


def _facts(found: Found) -> dict[str, Any]:
    return {
        'store': found.name,
        **describe_key(found.key),
        **found.description._asdict(),
        'counterpart': found.counterpart,
    }


def failure(found: Found, error: CorruptValue, mask: Mask) -> dict[str, Any]:
    """Return what is shown in place of a value.

    Args:
        found: the value.
        error: why it is not shown.
        mask: what is not shown.

    Returns:
        ``{'error', 'raw', 'masked'}``; without ``raw`` where the value is JSON.
    """
    view: dict[str, Any] = {'error': str(located(found, error))}
    if isinstance(error, TooDeep):
        return view | {'masked': False}
    first = '' if found.shown is None else found.shown[:CORRUPT_BYTES].decode('utf-8', 'backslashreplace')
    shown = mask.applied_to({'key': found.key, 'value': None, 'raw': first})
    return view | {'raw': shown['raw'], 'masked': shown['masked']}


def located(found: Found, error: CorruptValue) -> CorruptValue:
    """Return why a value is not shown, with where it is stored.

    Args:
        found: the value.
        error: why it is not shown, as it was raised without its location.
    """
    if isinstance(error, TooDeep) or found.shown is None:
        return error
    return corrupt(found.key, found.store.name, found.store.location(), error)


def too_large(found: Found) -> CorruptValue | None:
    """Return why a value is not shown if it is because of its size; else ``None``.

    Args:
        found: the value.
    """
    if found.shown is not None:
        return None
    return CorruptValue(
        f'The value has {found.description.bytes:,} bytes; the pages show values of up to {MAX_VALUE_BYTES:,}. '
        '"lo-kvs get" prints it.'
    )
