"""Which keys every store accepts, and how messages show them."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES, check_key, check_prefix, display_key


@pytest.mark.parametrize('key', ['a', ' ', '\0', 'é', 'x' * MAX_KEY_BYTES, 'é' * (MAX_KEY_BYTES // 2)])
def test_a_key_is_text_of_one_byte_up_to_the_limit(key: str) -> None:
    assert check_key(key) is key


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        ('', 'is empty'),
        (None, 'NoneType: None'),
        (b'a', "bytes: b'a'"),
        (5, 'int: 5'),
        ('a\ud800', 'not valid Unicode at character 1'),
        ('x' * (MAX_KEY_BYTES + 1), '1,048,577 bytes; a key may have at most 1,048,576'),
        ('é' * (MAX_KEY_BYTES // 2) + 'x', '1,048,577 bytes'),
    ],
    ids=['empty', 'None', 'bytes', 'number', 'surrogate', 'too long', 'too long in UTF-8'],
)
def test_other_keys_are_rejected_with_what_is_wrong(key: Any, message: str) -> None:
    with pytest.raises(InvalidKey, match=message) as failure:
        check_key(key)
    assert len(str(failure.value)) < 400


def test_a_prefix_is_what_a_key_can_begin_with_or_nothing() -> None:
    assert [check_prefix(prefix) for prefix in ('', 'a', '\0')] == ['', 'a', '\0']
    for prefix in (None, 5, 'a\ud800', 'x' * (MAX_KEY_BYTES + 1)):
        with pytest.raises(InvalidKey, match=r'^The cursor of a scan cannot be the beginning of a key\: '):
            check_prefix(prefix, 'cursor')  # type: ignore[arg-type]


def test_a_key_of_a_subclass_of_text_becomes_plain_text() -> None:
    class Name(str):
        def __str__(self) -> str:
            return 'another'

    assert type(check_key(Name('a'))) is str
    assert check_key(Name('a')) == 'a'


def test_a_long_key_is_shown_by_its_beginning_and_its_length() -> None:
    assert display_key('x' * 200) == repr('x' * 200)
    assert display_key('x' * 2001) == f'{"x" * 150!r}… (2,001 characters)'
    assert display_key('x' * 201) == f'{"x" * 150!r}… (201 characters)'
