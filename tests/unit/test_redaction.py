"""Settings in messages: what is displayed of each value, and that no secret is."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs.config.raw_text import RawText
from learning_observer_kvs.config.redaction import MAX_DISPLAYED, REDACTED, display_value, is_secret, redacted
from learning_observer_kvs.settings import read_settings
from tests.support.checks import check


@pytest.mark.parametrize(
    ('option', 'value', 'copy'),
    [
        ('redis_password', 'hunter2', REDACTED),
        ('redis_password', 12345, REDACTED),
        ('redis_password', None, None),
        ('tokens', ['hunter2', None], [REDACTED, None]),
        ('tokens', ('hunter2',), [REDACTED]),
        ('hosts', ('a', {'secret': 'hunter2', 'port': 1}), ['a', {'secret': REDACTED, 'port': 1}]),
        ('redis_url', 'redis://:hunter2@host', 'redis://(hidden)@host'),
        ('redis_url', RawText.of('redis://host', '${URL}'), '${URL}'),
        ('redis_host', RawText.of('host'), 'host'),
        ('subdirs', True, True),
        (5, 'x', 'x'),
    ],
)
def test_a_redacted_copy_keeps_all_that_is_not_secret(option: object, value: Any, copy: Any) -> None:
    assert redacted(value, option) == copy
    assert redacted({option: value}) == {option: copy}


def test_values_without_an_option_are_not_secret() -> None:
    assert redacted(['x', {'redis_host': 'me'}]) == ['x', {'redis_host': 'me'}]


@pytest.mark.parametrize('value', ['redis://:hunter2@${HOST}', 'redis://${HOST}?password=hunter2'])
def test_a_password_written_beside_a_variable_is_never_displayed(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for environment in ({'HOST': 'h'}, {}):
        found = read_settings({'kvs': {'default': {'type': 'redis', 'redis_url': value}}}, environment)
        url = found['kvs']['default']['redis_url']
        assert 'hunter2' not in f'{found!r} {display_value("redis_url", url)} {found.problems}'
        assert '${HOST}' in repr(found)
    monkeypatch.setenv('HOST', 'h')
    for settings in ({'kvs': value}, {'kvs': {'default': {'type': 'stub'}}, 'redis_connection': value}):
        [problem] = check(settings)
        assert 'hunter2' not in f'{problem} {problem!r}'


def test_a_value_is_cut_only_where_it_is_longer_than_the_limit() -> None:
    longest = 'x' * (MAX_DISPLAYED - 2)  # and two quotes
    assert display_value('path', longest) == f"'{longest}'"
    assert display_value('path', longest + 'x') == f"'{longest}x…"


def test_false_is_displayed_as_yaml_writes_it() -> None:
    assert display_value('subdirs', False) == 'false'


@pytest.mark.parametrize(
    'option',
    [
        'password',
        'PASSWD',
        'ssl_keyfile_passphrase',
        'client_secret',
        'auth_tokens',
        'credentials',
        'apikey',
        'private_key',
    ],
)
def test_the_names_of_secrets_are_known_in_any_case_and_within_other_names(option: str) -> None:
    assert is_secret(option)
    assert display_value(option, 'hunter2') == REDACTED


@pytest.mark.parametrize('option', ['redis_host', 'path', 'key', 'redis_ssl_keyfile', None, 5])
def test_other_options_are_not_secret(option: object) -> None:
    assert not is_secret(option)
