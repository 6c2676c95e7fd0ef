"""``/debug/kvs``: a large value does not hold the event loop, and clients that do not read do not fill the memory."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer
from pytest_aiohttp.plugin import AiohttpServer

import learning_observer_kvs
from learning_observer_kvs.debug import answering, answers, sending, views
from learning_observer_kvs.debug.values import views as value_views
from learning_observer_kvs.kvs import KVS
from tests.support.loops import turns
from tests.support.watched import until

T = TypeVar('T')

MB = 1 << 20

CLIENTS = ThreadPoolExecutor(64)
"""Where clients wait, so that they do not use the threads of the server."""

JSON, PAGE = 'application/json', 'text/html'


@pytest.fixture
async def server(aiohttp_server: AiohttpServer, tmp_path: Path) -> TestServer:
    app = web.Application()
    stores = {'default': {'type': 'stub'}, 'sqlite': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')}}
    learning_observer_kvs.setup(app, {'kvs': stores, 'config': {'run_mode': 'dev'}})
    return await aiohttp_server(app)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(CLIENTS, function, *arguments)


async def got(server: TestServer | BaseTestServer, path: str, accept: str = JSON) -> tuple[int, bytes]:
    """The status and the body, read in another thread, so that the loop has nothing to do but to serve."""

    def read() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=60)
        try:
            connection.request('GET', path, headers={'Accept': accept})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return await in_thread(read)


def history() -> dict[str, Any]:
    """About 10 MB: the history of a text, as a reducer keeps it."""
    return {'chars': [[number, 'letter "é"\n', number / 7, None] for number in range(225_000)]}


@pytest.mark.parametrize('store', ['default', 'sqlite'])
@pytest.mark.parametrize('accept', [JSON, PAGE])
async def test_a_value_of_10_mb_does_not_hold_the_loop(server: TestServer, store: str, accept: str) -> None:
    await KVS[store].set('k', history())
    path = f'/debug/kvs/{store}/key?key=k'
    await got(server, f'/debug/kvs/{store}', accept)  # imports and templates
    async with turns() as seen:
        status, body = await got(server, path, accept)
    assert status == 200
    assert seen.count > 100
    assert seen.longest < 0.1
    if accept == JSON:
        assert json.loads(body)['value'] == history()
    else:
        assert len(body) < 1 << 18
        assert b'224,900 more items' in body


async def test_a_value_over_the_bound_is_not_read_and_its_page_says_so(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, 'MAX_VALUE_BYTES', 1000)
    await KVS().multiset({'fits': 'x' * 998, 'over': 'x' * 999})
    assert json.loads((await got(server, '/debug/kvs/default/key?key=fits'))[1])['error'] is None
    found = json.loads((await got(server, '/debug/kvs/default/key?key=over'))[1])
    assert (found['bytes'], found['value'], found['raw']) == (1001, None, '')
    assert 'has 1,001 bytes' in found['error']
    assert b'lo-kvs get' in (await got(server, '/debug/kvs/default/key?key=over', PAGE))[1]


@pytest.mark.parametrize(
    'text',
    [b'[' * 900 + b']' * 900, b'[' * 5000 + b']' * 5000, b'{"a":' * 900 + b'NaN' + b'}' * 900, b'[NaN, null, 1e999]'],
    ids=['900 levels', '5,000 levels', '900 objects', 'NaN'],
)
async def test_what_other_programs_store_is_shown_or_an_error_but_never_status_500(
    server: TestServer, text: bytes
) -> None:
    await KVS().commit_bytes({'k': text}, {})
    status, body = await got(server, '/debug/kvs/default/key?key=k')
    assert status == 200
    assert b'NaN' in body or b'[[[[' in body
    assert (await got(server, '/debug/kvs/default/key?key=k', PAGE))[0] == 200


# Clients that do not read


@contextmanager
def silent_clients(server: TestServer, count: int, path: str) -> Iterator[list[socket.socket]]:
    """Clients that send a request and never read the answer."""
    clients = []
    try:
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(('127.0.0.1', server.port))
            client.sendall(f'GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
            clients.append(client)
        yield clients
    finally:
        for client in clients:
            client.close()


def memory() -> int:
    """The most memory in bytes that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_clients_that_never_read_hold_few_answers_in_memory(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 6.0)
    value = ['x' * 100] * 100_000
    await KVS().set('k', value)
    path = '/debug/kvs/default/key?key=k'
    assert (await got(server, path))[0] == 200
    before = memory()
    with silent_clients(server, 30, path) as clients:
        statuses = await asyncio.gather(*(in_thread(first_line, client) for client in clients))
    assert statuses.count(b'HTTP/1.1 200 OK') == answering.MAX_VIEWERS_OF_ONE_CLIENT
    assert statuses.count(b'HTTP/1.1 503 Service Unavailable') == 30 - answering.MAX_VIEWERS_OF_ONE_CLIENT
    assert memory() - before < 200 * MB


def first_line(client: socket.socket) -> bytes:
    """The first line of the answer; the rest stays unread."""
    client.settimeout(60)
    return client.recv(100).partition(b'\r\n')[0]


async def test_clients_that_never_read_are_dropped_and_others_are_served(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, 'SEND_SECONDS', 4.0)
    monkeypatch.setattr(sending, 'SLOWEST', 1000 * MB)
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 60.0)
    await KVS().set('k', 'x' * (12 * MB))
    path = '/debug/kvs/default/key?key=k'
    with silent_clients(server, answering.MAX_VIEWERS_OF_ONE_CLIENT, path) as clients:
        await asyncio.gather(*(in_thread(first_line, client) for client in clients))
        another = asyncio.ensure_future(got(server, path))
        await until(lambda: not {client.getsockname()[1] for client in clients} & ports_of_clients(server))
        for left in await asyncio.gather(*(in_thread(read_all, client) for client in clients)):
            assert left < 12 * MB
        status, body = await another
        assert (status, len(body) > 12 * MB) == (200, True)


def ports_of_clients(server: TestServer) -> set[int]:
    """The ports of the clients that a server is connected with."""
    connections: Any = server.runner.server.connections  # type: ignore[union-attr]
    return {each.transport.get_extra_info('peername')[1] for each in connections if each.transport is not None}


def read_all(client: socket.socket) -> int:
    """How many bytes are left until the connection ends."""
    client.settimeout(60)
    count = 0
    with contextlib.suppress(ConnectionResetError):
        while received := client.recv(MB):
            count += len(received)
    return count


async def test_small_pages_are_served_while_large_ones_are_not_read(server: TestServer) -> None:
    await KVS().multiset({'k': 'x' * (12 * MB), 'small': 1})
    with silent_clients(server, answering.MAX_VIEWERS_OF_ONE_CLIENT - 1, '/debug/kvs/default/key?key=k') as clients:
        await asyncio.gather(*(in_thread(first_line, client) for client in clients))
        with silent_clients(server, 30, '/debug/kvs/default/key?key=small') as others:
            lines = await asyncio.gather(*(in_thread(first_line, client) for client in others))
            assert set(lines) == {b'HTTP/1.1 200 OK'}


async def test_a_client_that_asks_again_and_again_without_reading_is_dropped(
    server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, 'SEND_SECONDS', 0.5)
    await KVS().set('k', 'x' * 50_000)
    request = b'GET /debug/kvs/default/key?key=k HTTP/1.1\r\nHost: localhost\r\n\r\n'

    def ask(client: socket.socket) -> int:
        client.settimeout(60)
        for count in itertools.count():
            try:
                client.sendall(request)
            except (ConnectionResetError, BrokenPipeError):
                return count
        raise AssertionError

    with silent_clients(server, 1, '/debug/kvs') as [client]:
        assert await in_thread(ask, client) > 0


# Capacity


async def test_viewers_are_bounded_in_all_and_by_client_and_served_in_turn() -> None:
    viewers = sending.Viewers(3, 2)
    inside: list[str] = []
    ends = {name: asyncio.Event() for name in ('a1', 'a2', 'a3', 'b1', 'c1')}

    async def view(name: str) -> None:
        async with viewers.admit(name[0]):
            inside.append(name)
            await ends[name].wait()
        inside.remove(name)

    tasks = {name: asyncio.create_task(view(name)) for name in ends}
    for leaving, left in [(None, 'a1 a2 b1'), ('b1', 'a1 a2 c1'), ('a1', 'a2 c1 a3')]:
        if leaving is not None:
            ends[leaving].set()
            await tasks[leaving]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert inside == left.split()
    for name in ('a2', 'a3', 'c1'):
        tasks[name].cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    async with viewers.admit('a'), viewers.admit('a'), viewers.admit('b'):
        pass


async def test_a_request_that_waits_for_capacity_and_is_cancelled_leaves_nothing() -> None:
    viewers = sending.Viewers(1, 1)
    async with viewers.admit('a'):
        for _ in range(sending.MAX_WAITING + 10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0), viewers.admit('b'):
                    pass
    async with viewers.admit('b'):
        pass


def test_pages_are_made_in_another_thread_than_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def body(*_: Any) -> bytes:
        made.append(threading.get_ident())
        return b'{}'

    monkeypatch.setattr(value_views, 'json_body', body)
    app = web.Application()
    learning_observer_kvs.setup(app, {'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}})

    async def main() -> None:
        async with TestServer(app) as server:
            await KVS().set('k', 1)
            await got(server, '/debug/kvs/default/key?key=k')

    asyncio.run(main())
    assert made
    assert threading.get_ident() not in made
