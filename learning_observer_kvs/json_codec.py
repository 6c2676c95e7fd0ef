"""Values to JSON text and back: strict and fast; the only module that knows which codecs are used.

``encode`` returns what the standard ``json`` would return (tuples become lists, numbers as keys become text, a
``Counter`` becomes an object), but rejects a value that has no JSON form, with its path, instead of changing it.

orjson encodes the common case. It would silently turn NaN into ``null`` and accept enums and UUIDs, so a cheap check
goes with it: ormsgpack packs the value too. It rejects the types that only orjson accepts (what both accept is plain
JSON), and its packing shows whether there is any float in the value: without a float there is no NaN, and without a
``null`` in the text no NaN was lost. A value that this cannot clear is encoded by the slower, exact code. msgspec
decodes, because orjson would turn integers beyond 64 bits into floats.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias

import msgspec
import orjson
import ormsgpack

from learning_observer_kvs.errors import CorruptValue, InvalidValue

JSON: TypeAlias = Any
"""Any JSON value: dict with text keys, list, str, int, float, bool, None."""

MAX_DEPTH = 254
"""How many levels lists and objects may nest, on every backend: the limit of orjson, the strictest of the codecs."""

_PLAIN_ONLY = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_PLAIN_ONLY_TOO = (
    ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_FLOAT = b'\xcb'
"""The first byte of every float in MessagePack; the byte may occur elsewhere, too."""

_decode = msgspec.json.Decoder().decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_nothing = msgspec.json.Decoder(msgspec.Raw).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_dumps = orjson.dumps
_pack = ormsgpack.packb


def encode(value: JSON) -> bytes:
    """Encode a value as JSON text.

    Args:
        value: any JSON value; what ``json.dumps`` flattens (tuples, subclasses, non-text keys) is flattened likewise.

    Returns:
        The text, compact, in UTF-8.

    Raises:
        InvalidValue: a part of it has no JSON form (NaN, sets, circular references, …), it nests deeper than
            ``MAX_DEPTH`` levels, or two keys of one object would become the same text. The message gives the path.
    """
    try:
        # In this order: orjson has no bound on nested tuples, and writes beyond its memory where they are very deep.
        # In a list, because ormsgpack accepts one level more than MAX_DEPTH, of any kind.
        packed = _pack([value], option=_PLAIN_ONLY_TOO)
        text = _dumps(value, option=_PLAIN_ONLY)
    except TypeError:
        return _encode_exactly(value)
    if _FLOAT in packed and b'null' in text and _decode(text) != value:
        return _encode_exactly(value)
    # orjson's bytes keep the whole buffer that it wrote into: 4 KB for ten bytes. Caches keep texts, and count them.
    return bytes(memoryview(text))


def indented(text: bytes) -> bytes:
    """Indent a JSON text for people to read.

    Args:
        text: valid JSON in UTF-8.

    Returns:
        The same JSON, indented by two spaces, ending in a newline.
    """
    try:
        return msgspec.json.format(text, indent=2) + b'\n'
    except msgspec.DecodeError:  # a lone surrogate
        return json.dumps(json.loads(text), indent=2).encode() + b'\n'


def decode(text: bytes | str) -> JSON:
    """Decode a JSON text.

    Integers stay exact at any size. What Python's ``json`` writes is read too: ``NaN``, lone surrogates.

    Args:
        text: JSON in UTF-8.

    Returns:
        The value, a new object at every call.

    Raises:
        CorruptValue: the text is not JSON; the message is the rest of a sentence, to which the caller adds the key
            and the location.
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptValue(f'is not JSON: {error}') from None


def is_plain(text: bytes) -> bool:
    """Return whether a text is JSON in UTF-8, without decoding it. What only Python's ``json`` reads is not.

    Args:
        text: any bytes.
    """
    try:
        _decode_nothing(text)
        text.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


Item: TypeAlias = bytes | msgspec.Raw
"""The JSON text of an item; ``bytes(item)`` is a copy of it."""


def items(text: bytes) -> dict[str, Item] | list[Item]:
    """Return what a JSON text of an object or a list holds, each item as text: nothing inside of it is decoded.

    Args:
        text: JSON in UTF-8 that begins with ``{`` or ``[``.

    Returns:
        The texts of an object by name, or those of a list.

    Raises:
        CorruptValue: the text is not JSON, or nests deeper than Python goes; the message is the rest of a sentence.
    """
    try:
        found: Any = _decode_object(text) if text[:1] == b'{' else _decode_list(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # perhaps what only Python's json reads
        value = decode(text)
        try:
            if isinstance(value, dict):
                return {name: json.dumps(item).encode() for name, item in value.items()}
            return [json.dumps(item).encode() for item in value]
        except RecursionError:
            raise CorruptValue('nests too deep to be shown.') from None
    result: dict[str, Item] | list[Item] = found
    return result


def _encode_exactly(value: JSON) -> bytes:
    plain = _plain(value, (), set())
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate: JSON can hold it, but only escaped
        return json.dumps(plain, allow_nan=False, separators=(',', ':')).encode()


JSONPath: TypeAlias = tuple[str | int, ...]


def _plain(value: Any, path: JSONPath, inside: set[int]) -> JSON:
    """The value as plain built-in types, or InvalidValue with the path to the part that is not JSON."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(_digits(value, path))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _invalid(path, f'{float.__repr__(value)} has no JSON form', 'use None, or leave it out')
        return float.__float__(value)
    if not isinstance(value, (dict, list, tuple)):
        raise _invalid(
            path, f'{type(value).__name__} has no JSON form', 'use dict, list, text, numbers, booleans or None'
        )
    if len(path) >= MAX_DEPTH:
        raise _invalid((), f'it nests deeper than {MAX_DEPTH} levels', 'store a flatter value')
    if id(value) in inside:
        raise _invalid(path, 'it contains itself', 'store a value without circular references')
    inside.add(id(value))
    plain: JSON
    if isinstance(value, dict):
        plain = {}
        for key, item in value.items():
            name = _key_text(key, path)
            if name in plain:
                raise _invalid(path, f'two keys become the same text {name!r}', 'use text keys that differ')
            plain[name] = _plain(item, (*path, name), inside)
    else:
        plain = [_plain(item, (*path, index), inside) for index, item in enumerate(value)]
    inside.discard(id(value))
    return plain


def _key_text(key: Any, path: JSONPath) -> str:
    """What ``json`` makes of a key that is not text."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or key is True or key is False:
        return {None: 'null', True: 'true', False: 'false'}[key]
    if isinstance(key, int):
        return _digits(key, path)
    if isinstance(key, float) and math.isfinite(key):
        return float.__repr__(key)
    raise _invalid(path, f'the key {key!r} has no JSON form', 'use text as keys')


def _digits(number: int, path: JSONPath) -> str:
    try:
        return int.__repr__(number)
    except ValueError:  # beyond what Python turns into text, and back
        raise _invalid(path, f'an integer of {number.bit_length():,} bits has no JSON form here', 'use text') from None


def _invalid(path: JSONPath, message: str, hint: str) -> InvalidValue:
    location = 'value' + ''.join(f'[{step!r}]' for step in path)
    return InvalidValue(f'{location}: {message}; {hint}.')
