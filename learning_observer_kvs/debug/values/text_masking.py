"""Masking the JSON text of a value: nothing of a large one is decoded but what may have to be masked."""

from __future__ import annotations

from learning_observer_kvs import json_codec
from learning_observer_kvs.config.redaction import REDACTED
from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.values.nodes import plain

MAX_DEPTH = 16
"""How many levels are taken apart; what is inside of the last one is decoded."""

_REDACTED = json_codec.encode(REDACTED)


def masked_text(key: str, text: bytes, mask: Mask) -> tuple[bytes, bool]:
    """Return the JSON text of a value with what is masked in it replaced.

    Args:
        key: its key.
        text: the stored text.
        mask: what is masked.

    Returns:
        The text, the same one where nothing in it can be masked; and whether anything is masked.

    Raises:
        CorruptValue: it is not JSON; the message is the rest of a sentence.
    """
    text = plain(text)
    if mask.hides(key):
        return (text, False) if text == b'null' else (_REDACTED, True)
    return masked_part(text, mask)


def masked_part(text: bytes, mask: Mask, depth: int = 0) -> tuple[bytes, bool]:
    """Return the JSON text of a part of a value likewise.

    Args:
        text: the text, in UTF-8.
        mask: what is masked.
        depth: how many levels it is inside of what is masked.

    Returns:
        As :func:`masked_text`.

    Raises:
        CorruptValue: it is not JSON; the message is the rest of a sentence.
    """
    text = text.strip()
    if text[:1] not in (b'{', b'['):
        # One of these is in a text that is itself JSON; most are not, and there may be millions of them.
        may_be_json = text[:1] == b'"' and (b'{' in text or b'[' in text or b'\\' in text)
        is_masked = may_be_json and mask.hides_item(None, json_codec.decode(text))
        return (_REDACTED, True) if is_masked else (text, False)
    if not mask.may_hide(text):
        return text, False
    if depth > MAX_DEPTH:
        view = mask.applied_to({'key': '', 'value': json_codec.decode(text)})
        return as_json(view['value']), view['masked']
    # It is written anew, also if nothing is masked: of a field that is there twice only the last one counts.
    items = json_codec.items(text)
    if isinstance(items, dict):
        fields = {name: _field(name, bytes(item), mask, depth) for name, item in items.items()}
        parts = [as_json(name) + b':' + part for name, (part, _) in fields.items()]
        return b'{' + b','.join(parts) + b'}', any(is_masked for _, is_masked in fields.values())
    found = [masked_part(bytes(item), mask, depth + 1) for item in items]
    return b'[' + b','.join(part for part, _ in found) + b']', any(is_masked for _, is_masked in found)


def _field(name: str, text: bytes, mask: Mask, depth: int) -> tuple[bytes, bool]:
    if mask.hides_item(name, ()) and text.strip() != b'null':
        return _REDACTED, True
    return masked_part(text, mask, depth + 1)
