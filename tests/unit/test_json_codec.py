"""The JSON text of values; that every backend keeps it is tested by the store contract."""

from __future__ import annotations

import datetime
import decimal
import functools
import json
import math
import sys
import tracemalloc
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidValue
from tests.support.generated import TEXT

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=30,
)


@given(JSON_VALUES)
def test_every_json_value_survives_and_is_read_and_written_as_the_standard_json_does(value: Any) -> None:
    text = json_codec.encode(value)
    assert repr(json_codec.decode(text)) == repr(value)
    assert repr(json.loads(text)) == repr(value)
    assert repr(json_codec.decode(json.dumps(value).encode())) == repr(value)


@dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    'value',
    [Point(1), datetime.date(2020, 1, 1), decimal.Decimal(1), uuid.UUID(int=1), orjson.Fragment(b'1'), 1j, ..., Point],
    ids=lambda value: type(value).__name__,
)
def test_types_that_only_the_fast_codec_would_accept_are_rejected(value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"value\['a'\]\[0\]"):
        json_codec.encode({'a': [value]})


def test_a_nan_that_another_program_stored_can_be_read() -> None:
    assert str(json_codec.decode(b'{"a": [NaN, -Infinity]}')) == "{'a': [nan, -inf]}"


@pytest.mark.parametrize('text', [b'', b'{', b'nul', b'{"a": 1} x', b'\xff', b'[' * 100_000])
def test_what_is_not_json_is_corrupt(text: bytes) -> None:
    with pytest.raises(CorruptValue, match='is not JSON'):
        json_codec.decode(text)


def test_nesting_beyond_the_interpreters_limit_is_rejected() -> None:
    value: Any = []
    for _ in range(sys.getrecursionlimit() * 10):
        value = [value]
    with pytest.raises(InvalidValue, match='deeper'):
        json_codec.encode(value)


@pytest.mark.parametrize('bottom', [0, 'text', None, 1.5, 2**70, [], {}, ()], ids=repr)
@pytest.mark.parametrize('kinds', ['l', 'd', 't', 'ld', 'lt', 'dt', 'tl', 'td', 'ldt'])
def test_the_deepest_value_can_be_encoded_again_and_one_level_more_is_rejected(kinds: str, bottom: Any) -> None:
    def nested(levels: int) -> Any:
        value = bottom
        for level in range(levels - isinstance(bottom, (list, dict, tuple))):
            kind = kinds[level % len(kinds)]
            value = [value] if kind == 'l' else {'a': value} if kind == 'd' else (value,)
        return value

    text = json_codec.encode(nested(json_codec.MAX_DEPTH))
    assert json_codec.encode(json_codec.decode(text)) == text
    with pytest.raises(InvalidValue, match=f'deeper than {json_codec.MAX_DEPTH} levels'):
        json_codec.encode(nested(json_codec.MAX_DEPTH + 1))


def test_indented_text_means_the_same_and_keeps_big_integers() -> None:
    text = json_codec.encode({'n': 2**70, 'é': [1.0, 'a"b']})
    assert (
        json_codec.indented(text).decode()
        == '{\n  "n": 1180591620717411303424,\n  "é": [\n    1.0,\n    "a\\"b"\n  ]\n}\n'
    )


def test_indented_text_with_a_lone_surrogate_looks_like_any_other() -> None:
    text = json_codec.encode({'a': '\ud800', 'b': [1]})
    assert (
        json_codec.indented(text)
        == rb"""{
  "a": "\ud800",
  "b": [
    1
  ]
}
"""
    )


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        ({1: [True, 2], 'a': (None, 1.5)}, b'{"1":[true,2],"a":[null,1.5]}'),
        ({'a': '\ud800', 'b': [1, 2]}, rb'{"a":"\ud800","b":[1,2]}'),
        ({1: 'é'}, '{"1":"é"}'.encode()),
    ],
    ids=['keys that are not text', 'a lone surrogate', 'letters beyond ASCII'],
)
def test_a_value_that_the_fast_codec_leaves_is_as_compact_as_any_other(value: Any, text: bytes) -> None:
    assert json_codec.encode(value) == text


def test_one_object_may_stand_in_several_places_of_a_value() -> None:
    shared = Counter('ab')
    assert json_codec.encode({1: shared, 2: shared, 3: [shared]}) == (
        b'{"1":{"a":1,"b":1},"2":{"a":1,"b":1},"3":[{"a":1,"b":1}]}'
    )


NOTHING: Any = []
CIRCULAR: dict[str, Any] = {}
CIRCULAR['a'] = [CIRCULAR]
DEEP: Any = functools.reduce(lambda value, _: [value], range(json_codec.MAX_DEPTH), NOTHING)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ({'a': [math.nan]}, "value['a'][0]: nan has no JSON form; use None, or leave it out."),
        (-math.inf, 'value: -inf has no JSON form; use None, or leave it out.'),
        ({'a': {1}}, "value['a']: set has no JSON form; use dict, list, text, numbers, booleans or None."),
        ([b'x'], 'value[0]: bytes has no JSON form; use dict, list, text, numbers, booleans or None.'),
        (DEEP, 'value: it nests deeper than 254 levels; store a flatter value.'),
        (CIRCULAR, "value['a'][0]: it contains itself; store a value without circular references."),
        ({1: 1, '1': 2}, "value: two keys become the same text '1'; use text keys that differ."),
        ({'a': {(1, 2): 3}}, "value['a']: the key (1, 2) has no JSON form; use text as keys."),
        ({math.nan: 1}, 'value: the key nan has no JSON form; use text as keys.'),
        ([1 << 100_000], 'value[0]: an integer of 100,001 bits has no JSON form here; use text.'),
        ({1 << 100_000: 1}, 'value: an integer of 100,001 bits has no JSON form here; use text.'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_a_rejected_value_is_named_with_its_path_and_a_hint(value: Any, message: str) -> None:
    with pytest.raises(InvalidValue) as rejected:
        json_codec.encode(value)
    assert str(rejected.value) == message


@pytest.mark.parametrize('size', [1, 100, 3000, 50_000])
def test_a_text_takes_no_more_memory_than_its_bytes(size: int) -> None:
    tracemalloc.start()
    try:
        texts = [json_codec.encode({'text': 'x' * size}) for _ in range(10)]
        taken = tracemalloc.get_traced_memory()[0] / len(texts)
    finally:
        tracemalloc.stop()
    assert taken < len(texts[0]) + 200
