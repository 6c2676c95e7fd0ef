"""The Redis options in the settings: what contradicts what, and which of two blocks holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stores.redis.options import (
    OPTIONS,
    address,
    database,
    endpoint,
    overriding,
    sentinels,
    speaks_tls,
    url_part,
    value,
)
from tests.support.checks import check


def problems(redis: dict[str, Any] | None = None, **store: Any) -> list[str]:
    settings: dict[str, Any] = {'kvs': {'default': {'type': 'redis', **store}}}
    if redis is not None:
        settings['redis_connection'] = redis
    return [str(problem) for problem in check(settings)]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({'redis_url': 'redis://h', 'redis_host': 'h'}, 'redis_host contradicts redis_url'),
    ({'redis_url': 'redis://h', 'redis_port': 7}, 'redis_port contradicts redis_url'),
    ({'redis_socket': '/s', 'redis_sentinels': ['h:1'], 'redis_service_name': 'x'}, 'contradicts redis_socket'),
    ({'redis_sentinels': ['h:1']}, 'Add redis_service_name'),
    ({'redis_service_name': 'x'}, 'Add redis_sentinels'),
    ({'redis_sentinels': ['h'], 'redis_service_name': 'x'}, 'each as host:port'),
    ({'redis_sentinels': 3, 'redis_service_name': 'x'}, 'each as host:port'),
    ({'redis_cluster': True, 'redis_db': 2}, 'allows no database other than 0'),
    ({'redis_cluster': True, 'redis_socket': '/s'}, 'redis_cluster cannot be combined with redis_socket'),
    ({'redis_socket': '/s', 'redis_ssl': True}, 'redis_ssl cannot be combined with redis_socket'),
    ({'redis_ssl_ca_certs': '/c'}, 'Add redis_ssl: true'),
    ({'redis_ssl': True, 'redis_ssl_keyfile': '/k'}, 'Add redis_ssl_certfile'),
    ({'redis_url': 'http://h'}, 'does not begin with redis://'),
    ({'redis_url': 'redis://[::1'}, 'is not a URL'),
    ({'redis_url': 'redis://h:0'}, 'port that is not a number'),
    ({'redis_url': 'redis://h:99999'}, 'port that is not a number'),
    ({'redis_url': 'redis://h/one'}, 'database that is not a number'),
    ({'redis_url': 'redis://h/²'}, 'database that is not a number'),
    ({'redis_url': 'redis://h?db=one'}, 'database that is not a number'),
    ({'redis_url': 'unix:///s?db='}, 'database that is not a number'),
    ({'redis_url': 'unix://'}, 'does not name a socket'),
    ({'redis_url': 'redis://h?decode_responses=true'}, "the option 'decode_responses'"),
    ({'redis_url': 'redis://h', 'redis_ssl': True}, 'Write rediss://'),
    ({'redis_timeout': 0}, 'positive number of seconds'),
]


@pytest.mark.parametrize(('block', 'message'), WRONG, ids=[message for _, message in WRONG])
def test_settings_that_contradict_each_other_are_errors_in_both_blocks(block: Any, message: str) -> None:
    for found in (problems(block), problems({}, **block)):
        assert len(found) == 1, found
        assert message in found[0]


RIGHT: list[dict[str, Any]] = [
    {'redis_host': 'h', 'redis_port': 7, 'redis_db': 3},
    {'redis_url': 'redis://u:p@h:65535/15'},
    {'redis_url': 'redis://h?db=3'},
    {'redis_url': 'unix:///run/redis.sock?db=3'},
    {'redis_url': 'rediss://h', 'redis_ssl': True, 'redis_ssl_ca_certs': '/c'},
    {'redis_url': 'rediss://h', 'redis_ssl_ca_certs': '/c'},
    {'redis_url': 'redis://h', 'redis_ssl': False},
    {'redis_ssl': True, 'redis_ssl_keyfile': '/k', 'redis_ssl_certfile': '/c'},
    {'redis_ssl': True, 'redis_ssl_certfile': '/c'},
    {'redis_sentinels': ['h:1'], 'redis_service_name': 'x', 'redis_db': 3},
    {'redis_socket': '/s', 'redis_db': 3, 'redis_ssl': False},
    {'redis_cluster': True, 'redis_host': 'h', 'redis_db': 0},
    {'redis_cluster': True, 'redis_url': 'redis://h/0'},
    {'redis_cluster': False, 'redis_socket': '/s'},
    {'redis_host': 'h', 'redis_url': '', 'redis_socket': None},
]


@pytest.mark.parametrize('block', RIGHT, ids=str)
def test_settings_that_go_together_have_no_problem_in_either_block(block: dict[str, Any]) -> None:
    assert problems(block) == []
    assert problems({}, **block) == []


@pytest.mark.parametrize(
    ('shared', 'own', 'message'),
    [
        ({'redis_socket': '/s'}, {'redis_ssl': True}, 'redis_ssl cannot be combined with redis_socket'),
        ({'redis_db': 2}, {'redis_cluster': True}, 'redis_cluster allows no database other than 0'),
    ],
)
def test_a_store_that_contradicts_the_shared_settings_is_an_error_at_the_store(
    shared: dict[str, Any], own: dict[str, Any], message: str
) -> None:
    [found] = problems(shared, **own)
    assert f'kvs.default.{message}' in found


@pytest.mark.parametrize('other', [{'redis_port': 70000}, {'redis_host': 'h${NONE}'}], ids=str)
def test_options_that_are_wrong_or_not_set_do_not_contradict_others(
    other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('NONE', raising=False)
    block = {'redis_url': 'redis://h'} | other
    for found in (problems(block), problems({}, **block)):
        assert len(found) == 1
        assert 'contradicts' not in found[0]


def test_every_contradiction_is_reported() -> None:
    block = {'redis_cluster': True, 'redis_db': 1, 'redis_sentinels': ['h:1'], 'redis_ssl_keyfile': '/k'}
    assert [found.partition('. ')[0].split('connection.')[1] for found in problems(block)] == [
        'redis_cluster cannot be combined with redis_sentinels',
        'redis_cluster allows no database other than 0',
        'redis_sentinels needs redis_service_name',
        'redis_ssl_keyfile is given, but redis_ssl is not true',
        'redis_ssl_keyfile needs redis_ssl_certfile',
    ]


def test_no_message_contains_a_secret_of_a_url() -> None:
    url = 'http://user:geheim@h:6379'
    assert 'geheim' not in ''.join(problems({'redis_url': url}))
    assert address({'redis_url': url}) == 'http://h:6379'


def test_settings_written_as_pmss_has_them_are_understood() -> None:
    written = {'redis_sentinels': 'a:1, [::1]:2', 'redis_service_name': 'x', 'redis_url': 'None', 'redis_socket': ''}
    assert problems(written) == []
    assert address(written) == 'x (Sentinels a:1, ::1:2)'


def test_a_store_with_another_address_takes_nothing_of_the_shared_address() -> None:
    shared = {'redis_url': 'redis://a/1', 'redis_password': 'p', 'redis_timeout': 1}
    assert overriding(shared, {'redis_port': 7}) == {'redis_port': 7, 'redis_password': 'p', 'redis_timeout': 1}
    assert overriding(shared, {'redis_timeout': 2}) == {**shared, 'redis_timeout': 2}
    assert overriding({'redis_host': 'a', 'redis_port': 1}, {'redis_port': 2}) == {'redis_host': 'a', 'redis_port': 2}


def test_a_store_with_a_user_or_password_in_its_url_takes_neither_of_the_shared_settings() -> None:
    shared = {'redis_username': 'u', 'redis_password': 'p', 'redis_timeout': 1}
    for url in ('redis://:q@b', 'redis://v@b/1', 'redis://v:q@b'):
        assert overriding(shared, {'redis_url': url}) == {'redis_url': url, 'redis_timeout': 1}
    for url in ('redis://b/1', 'unix:///tmp/a@b'):
        assert overriding(shared, {'redis_url': url}) == {**shared, 'redis_url': url}
    own = {'redis_url': 'redis://v@b', 'redis_password': 'q'}
    assert overriding(shared, own) == {**own, 'redis_timeout': 1}


@pytest.mark.parametrize(
    ('settings', 'server', 'text'),
    [
        ({}, {'host': 'localhost', 'port': 6379}, 'localhost:6379'),
        ({'redis_host': 'h', 'redis_port': 7}, {'host': 'h', 'port': 7}, 'h:7'),
        ({'redis_url': 'redis://h:7/3'}, {'host': 'h', 'port': 7}, 'redis://h:7/3'),
        ({'redis_url': 'rediss://'}, {'host': 'localhost', 'port': 6379}, 'rediss://'),
        ({'redis_url': 'redis://u:p@[::1]'}, {'host': '::1', 'port': 6379}, 'redis://[::1]'),
        ({'redis_url': 'unix:///run/a%20b.sock?db=2'}, {'path': '/run/a b.sock'}, 'unix:///run/a%20b.sock?(hidden)'),
        ({'redis_socket': '/run/redis.sock'}, {'path': '/run/redis.sock'}, '/run/redis.sock'),
        ({'redis_url': None, 'redis_socket': '', 'redis_host': 'h'}, {'host': 'h', 'port': 6379}, 'h:6379'),
    ],
)
def test_a_server_is_found_by_url_socket_or_host(settings: Any, server: dict[str, Any], text: str) -> None:
    assert endpoint(settings) == server
    assert address(settings) == text


@pytest.mark.parametrize(
    ('settings', 'number'),
    [
        ({}, 0),
        ({'redis_db': 4}, 4),
        ({'redis_url': 'redis://h/3', 'redis_db': 4}, 3),
        ({'redis_url': 'redis://h/0', 'redis_db': 4}, 0),
        ({'redis_url': 'redis://h', 'redis_db': 4}, 4),
        ({'redis_url': 'redis://h/3?db=5'}, 5),
        ({'redis_url': 'unix:///run/7?db=2'}, 2),
        ({'redis_url': 'unix:///7', 'redis_db': 4}, 4),
    ],
)
def test_the_database_of_a_url_comes_before_the_option(settings: Any, number: int) -> None:
    assert database(settings) == number


def test_user_and_password_of_a_url_are_decoded() -> None:
    settings = {'redis_url': 'redis://m%40e:p%2Fw@h'}
    assert (url_part(settings, 'username'), url_part(settings, 'password')) == ('m@e', 'p/w')
    for without in ({}, {'redis_url': 'None'}, {'redis_url': 'redis://h'}, {'redis_url': 'redis://:@h'}):
        assert url_part(without, 'username') is url_part(without, 'password') is None


def test_tls_is_spoken_by_option_or_by_url() -> None:
    with_tls: list[dict[str, Any]] = [{'redis_ssl': True}, {'redis_url': 'rediss://h', 'redis_ssl': False}]
    without: list[dict[str, Any]] = [{}, {'redis_ssl': False}, {'redis_url': 'redis://h'}, {'redis_url': None}]
    assert [speaks_tls(settings) for settings in with_tls] == [True, True]
    assert [speaks_tls(settings) for settings in without] == [False] * 4


def test_sentinels_are_a_list_or_text_with_commas() -> None:
    for written in (['a:1', ' [::1]:2'], 'a:1, [::1]:2', ('a:1', '[::1]:2')):
        assert sentinels({'redis_sentinels': written}) == [('a', 1), ('::1', 2)]
    empty: list[Any] = [[], '', None, 'None', ()]
    assert [sentinels({'redis_sentinels': written}) for written in empty] == [[]] * 5
    assert sentinels({}) == []


def test_the_default_holds_where_an_option_is_not_given_or_empty() -> None:
    assert value({}, 'redis_timeout') == value({'redis_timeout': None}, 'redis_timeout') == 5
    assert value({'redis_cluster': False}, 'redis_cluster') is False
    assert value({'redis_db': 0}, 'redis_db') == 0
    assert value({'redis_ssl_check_hostname': False}, 'redis_ssl_check_hostname') is False
    assert value({}, 'redis_ssl_check_hostname') is True
    assert value({}, 'redis_ssl') is value({}, 'redis_cluster') is False
    assert value({}, 'redis_password') is None


def test_every_option_is_described_in_a_sentence() -> None:
    for option in OPTIONS:
        assert option.doc.endswith('.'), option.name


def test_a_redis_option_in_a_store_of_another_type_is_a_warning() -> None:
    [found] = problems({}, type='stub', redis_port=1)
    assert 'KVS.W001' in found


def test_a_wrong_redis_option_in_a_store_is_an_error_with_its_location(tmp_path: Path) -> None:
    (tmp_path / 'creds.yaml').write_text('kvs:\n  default:\n    type: redis\n    redis_port: 0\n')
    with pytest.raises(StartupCheck, match=r'creds\.yaml:4  kvs\.default\.redis_port is 0'):
        KVSRouter.from_settings(tmp_path / 'creds.yaml')


def test_two_stores_on_two_servers_do_not_share_their_keys() -> None:
    def warned(**other: Any) -> bool:
        items = {'default': {'type': 'redis'}, 'other': {'type': 'redis', **other}}
        found = check({'kvs': items})
        return any(problem.id == 'KVS.W003' for problem in found)

    assert warned()
    assert warned(redis_host='localhost')
    assert not warned(redis_host='elsewhere')
    assert not warned(redis_db=1)
