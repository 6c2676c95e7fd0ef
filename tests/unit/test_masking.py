"""Values whose names say that they let others in, masked for the pages."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs.config.redaction import REDACTED
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.json_codec import encode
from tests.support.checks import check


def shown(value: Any, key: str = 'k', words: list[str] | None = None) -> Any:
    mask = Mask() if words is None else Mask(words)
    return mask.applied_to({'key': key, 'value': value})['value']


@pytest.mark.parametrize(
    'name',
    [
        'auth',
        'google_stored_auth_headers',
        'google-stored-auth',
        'authHeaders',
        'AUTH',
        'OAuth',
        'oauth2',
        'OAuth2Token',
        'access_token',
        'accessToken',
        'APIToken',
        'tokens',
        'Set-Cookie',
        'cookies',
        'clientSecret',
        'session.id',
        'password',
        'PassWord',
        'Authorization',
        'user:7:token',
    ],
)
def test_a_segment_of_the_name_is_enough(name: str) -> None:
    assert shown({'a': [{name: {'x': 'hunter2'}, 'b': 1}]}) == {'a': [{name: REDACTED, 'b': 1}]}
    assert shown({'x': 'hunter2'}, name) == REDACTED


@pytest.mark.parametrize(
    'name', ['author', 'authors', 'coauthor', 'unauthorized', 'tokenize', 'secretary', 'obsession', 'cookiecutter', '']
)
def test_part_of_a_segment_is_not_enough(name: str) -> None:
    assert shown({name: 'x'}) == {name: 'x'}
    assert shown('x', name) == 'x'


def test_a_missing_value_stays_missing_and_every_other_is_masked() -> None:
    assert shown({'token': None}) == {'token': None}
    assert shown(None, 'token') is None
    values: list[Any] = ['', 0, False, 1.5, [], {}, [1], 'hunter2']
    for value in values:
        assert shown({'token': value}) == {'token': REDACTED}


def test_json_inside_a_text_is_masked_as_a_whole() -> None:
    inner = encode({'headers': encode({'Authorization': 'Bearer hunter2'}).decode()}).decode()
    assert shown(['{not json', '[1]', inner]) == ['{not json', '[1]', REDACTED]


def test_a_value_that_is_not_json_is_masked_if_a_word_is_in_it() -> None:
    view = {'key': 'k', 'value': None, 'raw': '{"token": "hunter2'}
    assert Mask().applied_to(view) == {**view, 'raw': REDACTED, 'masked': True}
    plain = {'key': 'k', 'value': None, 'raw': '{"author": "bob'}
    assert Mask().applied_to(plain) == {**plain, 'masked': False}


@pytest.mark.parametrize(
    'text',
    [
        '{"\\u0061uth": "hunter2"',
        '{"\\u0041\\u0075th": "hunter2"} and more',
        *('{"auth": "hunter2"'.encode(name).decode('utf-8', 'backslashreplace') for name in ('utf-16', 'utf-32-le')),
    ],
    ids=['cut', 'more', 'UTF-16', 'UTF-32'],
)
def test_a_word_is_found_however_a_value_that_is_not_json_has_it_written(text: str) -> None:
    view = {'key': 'k', 'value': None, 'raw': text}
    assert Mask().applied_to(view) == {**view, 'raw': REDACTED, 'masked': True}


@pytest.mark.parametrize(
    'text', ['{"\\u0061uth": "hunter2"', '{"a": 1}\n{"\\u0061uth": "hunter2"}'], ids=['cut', 'lines']
)
def test_so_is_one_in_a_text_that_begins_like_json(text: str) -> None:
    assert shown({'t': text, 'u': encode(text).decode()}) == {'t': REDACTED, 'u': REDACTED}
    assert Mask().may_hide(encode({'t': text}))


def test_a_value_of_any_depth_is_masked() -> None:
    deep: Any = {'token': 'hunter2'}
    for _ in range(5_000):
        deep = [deep]
    view = Mask().applied_to({'key': 'k', 'value': deep})
    assert view['masked']
    for _ in range(5_000):
        deep = deep[0]
    assert deep == {'token': REDACTED}


def test_the_words_are_a_setting() -> None:
    assert shown({'token': 1, 'apiKey': 2, 'Geheimnis': 3}, words=['api_key', 'geheimnis']) == {
        'token': 1,
        'apiKey': REDACTED,
        'Geheimnis': REDACTED,
    }
    assert shown({'token': 1}, words=[]) == {'token': 1}
    for masked in ('api_key, pin', ['api_key', 'pin']):  # as PMSS and as YAML have it
        assert Mask.of({'kvs_debug': {'masked': masked}}).hides('pin')
        assert not Mask.of({'kvs_debug': {'masked': masked}}).hides('token')
    assert Mask.of({}).hides('token')


@pytest.mark.parametrize(
    ('masked', 'wrong'), [(['a', 'b'], False), ([], False), ('a, b', False), (5, True), ([''], True), (None, True)]
)
def test_words_that_are_not_text_are_an_error(masked: Any, wrong: bool) -> None:
    found = check({'kvs': {'default': {'type': 'stub'}}, 'kvs_debug': {'masked': masked}})
    assert [problem.id for problem in found] == ['KVS.E015'] * wrong
