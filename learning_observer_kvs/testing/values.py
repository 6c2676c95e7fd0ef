"""Values as data: those that come back as they are, those that JSON flattens, and invalid ones."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import random
import struct
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from learning_observer_kvs.json_codec import MAX_DEPTH
from learning_observer_kvs.stores.types import MISSING


class Colour(enum.Enum):
    """An enum that JSON cannot hold."""

    RED = 'red'


class Level(enum.IntEnum):
    """An enum that JSON flattens."""

    LOW = 1
    HIGH = 2


class Mood(str, enum.Enum):  # noqa: UP042  (not StrEnum: this is what older code has)
    """Another that JSON flattens."""

    CALM = 'calm'


class Label(str):
    """A subclass that JSON flattens, although its text form differs."""

    def __str__(self) -> str:
        return 'something else'


class Number(int):
    """A subclass that JSON flattens, although its text form differs."""

    def __repr__(self) -> str:
        return 'many'


class Share(float):
    """A subclass that JSON flattens, although its text form differs."""

    def __repr__(self) -> str:
        return 'a half'


class Point(NamedTuple):
    """A named tuple, whose names JSON loses."""

    x: int
    y: int


@dataclasses.dataclass
class Essay:
    """A dataclass, which ``json`` refuses."""

    title: str


def nested(levels: int, *, kind: str = 'list') -> Any:
    """Make a nested value.

    Args:
        levels: how many containers are inside one another.
        kind: ``list``, ``dict``, ``tuple``, ``mixed`` (lists and dicts) or ``tuples and lists``.

    Returns:
        The outermost container.
    """
    value: Any = 'bottom'
    for level in range(levels):
        if kind == 'dict' or (kind == 'mixed' and level % 2):
            value = {'in': value}
        else:
            value = (value,) if kind == 'tuple' or (kind == 'tuples and lists' and level % 2) else [value]
    return value


def circular(kind: str = 'list') -> Any:
    """Make a container that contains itself.

    Args:
        kind: ``list``, ``dict`` or ``tuple``.

    Returns:
        The container.
    """
    if kind == 'dict':
        value: dict[str, Any] = {}
        value['self'] = [value]
        return value
    inner: list[Any] = []
    inner.append((inner,) if kind == 'tuple' else inner)
    return inner


def floats() -> Iterator[float]:
    """Generate floats of every size, the same ones in every run.

    Yields:
        Finite floats, a thousand at most.
    """
    bits = random.Random(1).getrandbits
    for _ in range(1000):
        number: float = struct.unpack('d', bits(64).to_bytes(8, 'little'))[0]
        if math.isfinite(number):
            yield number


_SHARED = [1, {'a': 2}]

KEPT: dict[str, Any] = {
    'null': None,
    'false': False,
    'true': True,
    'zero': 0,
    'empty text': '',
    'empty list': [],
    'empty object': {},
    'a bare number': 17,
    'a bare text': 'text',
    'a float that is whole': 1.0,
    'one beside 1.0': [1, 1.0, True],
    'negative zero': -0.0,
    'floats at the edges': [
        0.1 + 0.2,
        1 / 3,
        5e-324,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        1e16,
        1e22,
        1e-7,
    ],
    'floats beyond exact integers': [9007199254740992.0, 9007199254740994.0, 1e100, -1e300],
    'a thousand floats': list(floats()),
    'integers at 64 bits': [2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1],
    'an integer beyond 64 bits': 2**70 + 1,
    'a negative integer beyond 64 bits': -(2**70),
    'an integer of a thousand digits': 10**1000 + 7,
    'accents and emoji': 'é ł 漢 😀 \u2028 \u2029 \ufeff',
    'composed and decomposed': ['é', 'e\u0301'],
    'NUL and controls': 'a\x00b\x1f\x7f\r\n\t',
    'quotes, backslashes, slashes': '"\\/\\u0041</script>',
    'a lone surrogate': 'a\ud83d',
    'a lone surrogate as a key': {'\ude00': ['\ud800']},
    'text that is the word null': ['null', None, 'NaN', 'Infinity'],
    'text that is JSON': '{"a": [1, null]}',
    'null beside floats': [None, 0.5, {'a': None}],
    'key order': {'z': 1, 'a': 2, 'm': {'y': 1, 'b': 2}, '10': 3, '9': 4},
    'an empty key': {'': 1},
    'a key with a NUL': {'a\x00b': 1, 'a': 2},
    'the same list twice': [_SHARED, _SHARED],
    'the deepest list': nested(MAX_DEPTH),
    'the deepest object': nested(MAX_DEPTH, kind='dict'),
    'the deepest mixture': [None, nested(MAX_DEPTH - 1, kind='mixed')],
    'ten thousand numbers': list(range(10_000)),
    'five megabytes': {'text': 'écrit😀 ' * 500_000},
}
"""Values that come back as they are, by description."""

FLATTENED: dict[str, tuple[Any, Any]] = {
    'tuple': ((1, (2, 3)), [1, [2, 3]]),
    'empty tuple': ((), []),
    'the deepest tuple': (nested(MAX_DEPTH, kind='tuple'), nested(MAX_DEPTH)),
    'named tuple': ({'at': Point(1, 2)}, {'at': [1, 2]}),
    'Counter': (collections.Counter('aab'), {'a': 2, 'b': 1}),
    'defaultdict': (collections.defaultdict(list, {'a': [1]}), {'a': [1]}),
    'OrderedDict': (collections.OrderedDict(b=1, a=2), {'b': 1, 'a': 2}),
    'number keys': ({1: 'a', 2.5: 'b', -3: 'c', 10**20: 'd'}, {'1': 'a', '2.5': 'b', '-3': 'c', str(10**20): 'd'}),
    'time stamps as keys': ({1700000000000: {1700000000.25: 'b'}}, {'1700000000000': {'1700000000.25': 'b'}}),
    'boolean and null keys': ({True: 1, False: 2, None: 3}, {'true': 1, 'false': 2, 'null': 3}),
    'subclasses as keys': (
        {Label('w'): 1, Number(2): 3, Level.LOW: 4, Share(0.5): 5},
        {'w': 1, '2': 3, '1': 4, '0.5': 5},
    ),
    'text subclass': ([Label('w')], ['w']),
    'integer subclass': ([Number(3)], [3]),
    'float subclass': ([Share(0.5)], [0.5]),
    'integer enum': (Level.HIGH, 2),
    'text enum': ({'mood': Mood.CALM}, {'mood': 'calm'}),
    'two halves of an emoji': ('\ud83d\ude00', '😀'),
}
"""Values that come back as the standard ``json`` would return them: (stored, read), by description."""

INVALID: dict[str, tuple[Any, str]] = {
    'NaN': ({'a': [1, {'b': math.nan}]}, "value['a'][1]['b']"),
    'NaN alone': (math.nan, 'value: nan'),
    'infinity': ([math.inf], 'value[0]'),
    'negative infinity beside a null': ([None, -math.inf], 'value[1]'),
    'NaN beside the word null': (['null', {'null': math.nan}], "value[1]['null']"),
    'NaN in a tuple': ((0, (math.nan,)), 'value[1][0]'),
    'NaN as a key': ({'a': {math.nan: 1}}, "value['a']"),
    'set': ({'a': {1, 2}}, "value['a']"),
    'frozenset': ([frozenset()], 'value[0]'),
    'bytes': ([b'x'], 'value[0]'),
    'bytearray': ([0, bytearray(b'x')], 'value[1]'),
    'enum': ({'colour': Colour.RED}, "value['colour']"),
    'enum as a key': ({'a': {Colour.RED: 1}}, "value['a']"),
    'dataclass': ({'essay': Essay('t')}, "value['essay']"),
    'date': ({'when': [datetime.date(2026, 2, 1)]}, "value['when'][0]"),
    'datetime': ({'when': datetime.datetime(2026, 2, 1)}, "value['when']"),
    'time span': ([datetime.timedelta(1)], 'value[0]'),
    'decimal': ({'a': decimal.Decimal('1.5')}, "value['a']"),
    'complex': ([1j], 'value[0]'),
    'uuid': ({'id': uuid.UUID(int=1)}, "value['id']"),
    'path': ([PurePosixPath('a')], 'value[0]'),
    'deque': ({'a': collections.deque([1])}, "value['a']"),
    'range': ({'a': range(3)}, "value['a']"),
    'generator': ([iter([1])], 'value[0]'),
    'function': ([len], 'value[0]'),
    'class': ({'a': int}, "value['a']"),
    'object': ([1, object()], 'value[1]'),
    'MISSING': ([MISSING], 'value[0]'),
    'circular list': ({'a': circular()}, "value['a'][0]: it contains itself"),
    'circular object': ({'a': circular('dict')}, "value['a']['self'][0]: it contains itself"),
    'circular through a tuple': (circular('tuple'), 'value[0][0]: it contains itself'),
    'colliding keys': ({'a': {1: 'x', '1': 'y'}}, "value['a']: two keys become the same text '1'"),
    'colliding true': ({True: 'x', 'true': 'y'}, "two keys become the same text 'true'"),
    'colliding null': ([{'null': 'x', None: 'y'}], "value[0]: two keys become the same text 'null'"),
    'colliding floats': ({2.5: 'x', '2.5': 'y'}, "two keys become the same text '2.5'"),
    'tuple as a key': ({(1, 2): 3}, 'value'),
    'bytes as a key': ({'a': {b'x': 3}}, "value['a']"),
    'an integer of ten thousand digits': ({'a': 10**10_000}, "value['a']"),
    'an integer of ten thousand digits as a key': ({'a': {10**10_000: 1}}, "value['a']"),
    'too deep by one': (nested(MAX_DEPTH + 1), 'deeper'),
    'too deep a tuple': (nested(MAX_DEPTH + 1, kind='tuple'), 'deeper'),
    'too deep an object': (nested(MAX_DEPTH + 1, kind='dict'), 'deeper'),
    'a thousand levels': (nested(1000), 'deeper'),
    'a thousand levels of tuples': (nested(1000, kind='tuple'), 'deeper'),
}
"""Values that JSON cannot hold, and a part of the error message: (value, text), by description."""
