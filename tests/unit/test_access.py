"""Who may read ``/debug/kvs``: the decision alone; ``tests/web`` has the pages."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request

from learning_observer_kvs.debug.access import is_allowed, is_local

HERE = ('127.0.0.1', 50_000)


def request_from(peer: Any, headers: dict[str, str] | None = None, version: HttpVersion = HttpVersion11) -> web.Request:
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: peer if name == 'peername' else default
    headers = {'Host': 'localhost', **(headers or {})}
    return make_mocked_request('GET', '/debug/kvs', headers=headers, version=version, transport=transport)


@pytest.mark.parametrize(
    'host',
    [
        'localhost',
        'localhost:8888',
        'localhost:',
        'LOCALHOST',
        'LocalHost:8888',
        '127.0.0.1',
        '127.9.9.9:80',
        '[::1]',
        '[::1]:8888',
        '[::FFFF:127.0.0.1]:80',
    ],
)
def test_a_request_of_this_machine_under_a_name_of_this_machine_is_local(host: str) -> None:
    assert is_local(request_from(HERE, {'Host': host}))


@pytest.mark.parametrize('peer', [HERE, ('::1', 5, 0, 0), ('::ffff:127.0.0.1', 5, 0, 0)])
def test_a_loopback_peer_is_local(peer: Any) -> None:
    assert is_local(request_from(peer))


@pytest.mark.parametrize(
    'peer', [('10.0.0.1', 5), ('::ffff:10.0.0.1', 5, 0, 0), ('fe80::1%eth0', 5, 0, 0), None, '', '/run/kvs.sock']
)
def test_another_peer_and_a_unix_socket_are_not_local(peer: Any) -> None:
    assert not is_local(request_from(peer))


@pytest.mark.parametrize(
    'host',
    [
        'evil.example',
        'evil.example:8888',
        'localhost.evil.example',
        '',
        '[::1',
        '[::1].evil.example',
        'localhost@evil.example',
        'localhost:x@evil.example',
        'localhost:80@evil.example',
        '127.0.0.1:80:evil.example',
        '[::1]:x@evil.example',
        'localhost:-1',
        'localhost:٣',
        'localhost :80',
        '::1',
        '[10.0.0.1]',
        '10.0.0.1',
        '0.0.0.0',
    ],
)
def test_a_page_of_another_host_is_not_local(host: str) -> None:
    assert not is_local(request_from(HERE, {'Host': host}))


def test_a_request_without_a_host_is_not_local() -> None:
    request = make_mocked_request('GET', '/debug/kvs', transport=request_from(HERE).transport)
    assert 'Host' not in request.headers
    assert not is_local(request)


@pytest.mark.parametrize('header', ['Forwarded', 'X-Forwarded-For', 'X-Forwarded-Host', 'X-Real-IP', 'Via', 'via'])
def test_a_request_through_a_proxy_is_not_local(header: str) -> None:
    assert not is_local(request_from(HERE, {header: 'localhost'}))


def test_http_1_0_is_a_proxys() -> None:
    assert not is_local(request_from(HERE, version=HttpVersion10))


def test_a_request_whose_connection_is_gone_is_not_local() -> None:
    request = request_from(HERE)
    request.protocol.transport = None
    assert request.transport is None
    assert not is_local(request)


async def allowed(authorize: Any, peer: Any = HERE) -> bool:
    return await is_allowed(authorize, request_from(peer), 'read', 'default', 'a key')


async def test_without_a_rule_this_machine_alone_is_allowed() -> None:
    assert await allowed(None)
    assert not await allowed(None, ('10.0.0.1', 5))


@pytest.mark.parametrize('answer', [True, False, None, 1, 'yes', web.Response()])
async def test_only_true_allows_whether_it_is_awaited_or_not(answer: Any) -> None:
    async def coroutine_function(*arguments: Any) -> Any:
        return answer

    assert await allowed(lambda *arguments: answer, ('10.0.0.1', 5)) is (answer is True)
    assert await allowed(coroutine_function, ('10.0.0.1', 5)) is (answer is True)


async def test_the_rule_gets_request_action_store_and_key() -> None:
    request = request_from(HERE)
    authorize = Mock(return_value=True)
    await is_allowed(authorize, request, 'read', 'default', 'a key')
    authorize.assert_called_once_with(request, 'read', 'default', 'a key')


async def test_a_rule_that_fails_allows_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(*arguments: Any) -> bool:
        raise RuntimeError('no such table')

    with caplog.at_level(logging.ERROR):
        assert await allowed(fail) is False
    [record] = caplog.records
    assert record.name == 'learning_observer_kvs'
    assert record.getMessage() == "authorize(request, 'read', 'default', …) failed; the request was rejected."
    assert 'no such table' in caplog.text


async def test_a_rule_may_send_the_browser_to_a_log_in_page(caplog: pytest.LogCaptureFixture) -> None:
    def redirect(*arguments: Any) -> bool:
        raise web.HTTPFound('/login')

    with pytest.raises(web.HTTPFound):
        await allowed(redirect)
    assert caplog.records == []
