"""Which hint an error of Redis has, by the settings in use. That servers write such errors is tried on real ones."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions

from learning_observer_kvs.stores.redis.hints import hint, unreadable_tls_file
from learning_observer_kvs.stores.redis.options import login_option, overriding

ENDED, SLOW, PASSWORD = 'Connection reset by peer', 'Timeout connecting to server', 'WRONGPASS'

HINTS: list[tuple[str, dict[str, Any], str]] = [
    (ENDED, {}, 'set redis_connection.redis_ssl: true'),
    (ENDED, {'redis_url': 'redis://h'}, 'write rediss:// in redis_connection.redis_url'),
    (ENDED, {'redis_socket': '/s'}, 'Is it running? See redis_connection.redis_socket, and its log.'),
    (ENDED, {'redis_ssl': True}, 'If it wants a certificate of its clients'),
    (ENDED, {'redis_ssl': True, 'redis_ssl_certfile': '/c'}, 'If it does not accept the certificate of this client'),
    (SLOW, {}, 'does no firewall stop this? See redis_connection.redis_host and redis_port.'),
    (SLOW, {'redis_ssl': True}, 'see redis_connection.redis_ssl.'),
    (SLOW, {'redis_url': 'rediss://h'}, 'see redis_connection.redis_url, which begins with rediss://'),
    (PASSWORD, {'redis_password': 'x'}, 'Set redis_connection.redis_password (and redis_username) as the server'),
    (PASSWORD, {'redis_password': 'x\n'}, 'begins or ends with a blank or a newline'),
    (PASSWORD, {'redis_url': 'redis://:x%0A@h'}, 'remove it from redis_connection.redis_url.'),
    (PASSWORD, {}, 'Set redis_connection.redis_password'),
    ('a cluster cannot be connected', {}, 'Is it running there?'),
    ('no node of the cluster has slot 16099', {'redis_cluster': True}, 'start those that are missing'),
    ('CLUSTERDOWN Hash slot not served', {'redis_cluster': True}, 'start those that are missing'),
]


@pytest.mark.parametrize(('text', 'settings', 'expected'), HINTS)
def test_a_hint_names_the_option_in_use(text: str, settings: dict[str, Any], expected: str) -> None:
    assert expected in hint(exceptions.ResponseError(text), text, settings, is_broken=False)


@pytest.mark.parametrize('error', [exceptions.AskError('1 h:1'), exceptions.ClusterCrossSlotError('x')], ids=repr)
def test_an_error_of_a_cluster_that_is_used_as_a_server_says_so(error: Exception) -> None:
    assert 'redis_cluster: true' in hint(error, 'x', {}, is_broken=True)


def test_files_of_tls_are_looked_at_only_where_it_is_spoken() -> None:
    files = {'redis_ssl_ca_certs': '/no/such/file'}
    assert unreadable_tls_file(files) is None
    assert 'the file /no/such/file cannot be read' in str(unreadable_tls_file({'redis_ssl': True, **files}))


@pytest.mark.parametrize(
    ('settings', 'option'),
    [
        ({}, 'redis_password'),
        ({'redis_url': 'redis://h'}, 'redis_password'),
        ({'redis_url': 'redis://u@h'}, 'redis_url'),
        ({'redis_url': 'redis://:x@h'}, 'redis_url'),
        ({'redis_url': 'redis://u:x@h', 'redis_password': 'y'}, 'redis_password'),
    ],
)
def test_the_login_is_that_of_the_options_before_that_of_the_url(settings: dict[str, Any], option: str) -> None:
    assert login_option(settings).startswith(f'redis_connection.{option}')


@pytest.mark.parametrize('empty', ['', None, [], (), 'None'])
def test_an_empty_address_of_a_block_replaces_none(empty: Any) -> None:
    assert overriding({'redis_host': 'h'}, {'redis_sentinels': empty})['redis_host'] == 'h'
