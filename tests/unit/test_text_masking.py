"""The text of a value is masked as the value is; of one in which nothing can be masked nothing is decoded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from learning_observer_kvs import json_codec
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.values.text_masking import masked_text
from learning_observer_kvs.errors import CorruptValue

VALUES: list[Any] = [
    None,
    7,
    'a text with auth in it',
    '{"token": 1}',
    [],
    {},
    {'author': 'ann', 'key': 'value'},
    {'token': None, 'auth': 's3cret', 'inner': [{'password': 's3cret'}, {'Auth': {'a': 's3cret'}}]},
    {'text': json.dumps({'token': 's3cret'}), 'list': [json.dumps([{'token': 's3cret'}])]},
    {
        'userToken': 's3cret',
        'USER_TOKEN': 's3cret',
        'tokens': ['s3cret'],
        'to\u212aen': 's3cret',
        'é': {'cookie': 's3cret'},
    },
    {'a': [[[[[[[[[[[[[[[[[[[[{'token': 's3cret'}]]]]]]]]]]]]]]]]]]]]},
]


@pytest.mark.parametrize('value', VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize('encode', [json_codec.encode, lambda value: json.dumps(value, indent=1).encode()])
def test_a_text_is_masked_as_the_value_is(value: Any, encode: Any) -> None:
    mask = Mask()
    text, is_masked = masked_text('k', encode(value), mask)
    view = mask.applied_to({'key': 'k', 'value': json.loads(json.dumps(value))})
    assert (json.loads(text), is_masked) == (view['value'], view['masked'])
    assert b's3cret' not in text


@pytest.mark.parametrize(
    'text',
    [
        b'{"a": {"token": "s3cret"}, "a": 1}',
        b'{"token": "s3cret", "token": null}',
        b'{"\\u0074oken": "s3cret"}',
        b'{"t\\u006fken": "s3cret", "x": [1, NaN]}',
        '{"token": "s3cret"}'.encode('utf-16'),
        '{"token": "s3cret"}'.encode('utf-16-le'),
        '["\ufeff", {"token": "s3cret"}]'.encode('utf-8-sig'),
        b'{"a": "{\\"\\u0074oken\\": \\"s3cret\\"}"}',
    ],
)
def test_a_word_cannot_be_hidden_from_the_mask(text: bytes) -> None:
    masked, _ = masked_text('k', text, Mask())
    assert b's3cret' not in masked.replace(b'\0', b'')
    json.loads(masked)


def test_words_of_other_alphabets_are_found_in_any_case() -> None:
    text, is_masked = masked_text('k', '{"ПАРОЛЬ": "s3cret"}'.encode(), Mask(['пароль']))
    assert (json.loads(text), is_masked) == ({'ПАРОЛЬ': '(hidden)'}, True)


def test_a_value_with_a_masked_key_is_masked_whole() -> None:
    assert masked_text('google_auth', b'{"a": 1}', Mask()) == (b'"(hidden)"', True)
    assert masked_text('google_auth', b' null', Mask()) == (b'null', False)


@pytest.mark.parametrize('text', [b'{"a":nul}', b'[1,]', b'["\xff"]', b'', b'[' * 5000])
def test_a_text_that_is_not_json_is_an_error(text: bytes) -> None:
    with pytest.raises(CorruptValue):
        masked_text('k', text, Mask())


def test_a_text_in_which_nothing_can_be_masked_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json_codec.encode({'chars': [[number, 'x', None] for number in range(10_000)]})

    def decode(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(json_codec, 'decode', decode)
    masked, is_masked = masked_text('k', text, Mask())
    assert (masked is text or masked == text, is_masked) == (True, False)
