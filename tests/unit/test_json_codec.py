"""The JSON text of values; that every backend keeps it is tested by the store contract."""

from __future__ import annotations

import datetime
import decimal
import json
import sys
import tracemalloc
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidValue

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(JSON_VALUES)
def test_every_json_value_survives(value: Any) -> None:
    assert repr(json_codec.decode(json_codec.encode(value))) == repr(value)


@given(JSON_VALUES)
def test_the_text_means_the_same_to_the_standard_json(value: Any) -> None:
    assert repr(json.loads(json_codec.encode(value))) == repr(value)


@given(JSON_VALUES)
def test_text_of_the_standard_json_is_read(value: Any) -> None:
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
            value = {'l': [value], 'd': {'a': value}, 't': (value,)}[kinds[level % len(kinds)]]
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


@pytest.mark.parametrize('size', [1, 100, 3000, 50_000])
def test_a_text_takes_no_more_memory_than_its_bytes(size: int) -> None:
    tracemalloc.start()
    try:
        texts = [json_codec.encode({'text': 'x' * size}) for _ in range(10)]
        taken = tracemalloc.get_traced_memory()[0] / len(texts)
    finally:
        tracemalloc.stop()
    assert taken < len(texts[0]) + 200
