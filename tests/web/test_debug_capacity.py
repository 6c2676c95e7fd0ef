"""``/debug/kvs``: clients that are rejected, send slowly or ask for much do not lock others out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug import answering, answers, parameters, sending
from learning_observer_kvs.errors import Overloaded
from learning_observer_kvs.kvs import KVS
from tests.support.debug_pages import make_app
from tests.support.watched import until

Client = TestClient[web.Request, web.Application]

OTHERS = ('127.0.0.2', '127.0.0.3', '127.0.0.4')
"""Other clients, on this machine."""

PATH = '/debug/kvs/default/key'


async def started(aiohttp_client: AiohttpClient, authorize: Any = None) -> Client:
    settings = {'kvs': {'default': {'type': 'stub'}}, 'config': {'run_mode': 'dev'}}
    client: Client = await aiohttp_client(make_app(settings, authorize))
    await KVS().set('k', 1)
    return client


@asynccontextmanager
async def unfinished(client: Client, count: int, of_bytes: int, host: str = 'localhost') -> AsyncIterator[None]:
    """Requests of other clients, so many of each, whose bodies lack their last byte."""
    head = f'POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {of_bytes}\r\n\r\n'.encode()
    async with AsyncExitStack() as connections:
        for address in OTHERS * count:
            _, writer = await asyncio.open_connection('127.0.0.1', client.port, local_addr=(address, 0))
            connections.callback(writer.close)
            writer.write(head + b'k' * (of_bytes - 1))
        async with client.post(f'{PATH}/', allow_redirects=False) as answer:  # handled after those before it
            assert answer.status == 308
        yield


async def assert_served(client: Client) -> None:
    async with asyncio.timeout(20):
        for method, options in (('GET', {'params': {'key': 'k'}}), ('POST', {'data': b'key=k'})):
            async with client.request(method, PATH, **options) as answer:
                assert (answer.status, (await answer.json())['value']) == (200, 1)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in these tests does so until their end."""
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 600.0)


@pytest.mark.parametrize('of_bytes', [9, 200_000])
async def test_requests_of_a_wrong_host_are_rejected_before_their_bodies_come(
    aiohttp_client: AiohttpClient, of_bytes: int
) -> None:
    client = await started(aiohttp_client)
    async with unfinished(client, 60, of_bytes, host='evil.example'):
        await assert_served(client)
    reader, writer = await asyncio.open_connection('127.0.0.1', client.port)
    writer.write(f'POST {PATH} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 9\r\n\r\nk'.encode())
    assert b' 403 ' in await asyncio.wait_for(reader.readline(), 20)
    writer.close()


@pytest.mark.parametrize('of_bytes', [9, parameters.SMALL_BODY])
async def test_requests_whose_bodies_do_not_come_leave_the_capacity_to_others(
    aiohttp_client: AiohttpClient, of_bytes: int
) -> None:
    client = await started(aiohttp_client, lambda *arguments: True)
    async with unfinished(client, 40, of_bytes):
        await assert_served(client)


async def test_large_bodies_that_do_not_come_leave_pages_and_small_bodies_to_others(
    aiohttp_client: AiohttpClient,
) -> None:
    client = await started(aiohttp_client, lambda *arguments: True)
    async with unfinished(client, 8, 4 * parameters.SMALL_BODY):
        await assert_served(client)


async def test_a_large_body_counts_until_its_page_is_made(aiohttp_client: AiohttpClient) -> None:
    made, is_allowed = 0, asyncio.Event()

    async def authorize(*arguments: Any) -> bool:
        nonlocal made
        made += 1
        await is_allowed.wait()
        return True

    client = await started(aiohttp_client, authorize)
    large = b'key=k&other=' + b'x' * 4 * parameters.SMALL_BODY
    asked = [asyncio.create_task(client.post(PATH, data=large)) for _ in range(20)]
    await until(lambda: made == answering.MAX_VIEWERS_OF_ONE_CLIENT)
    is_allowed.set()
    for answer in await asyncio.gather(*asked):
        assert answer.status == 200


async def test_requests_that_wait_for_authorize_leave_the_capacity_to_others(aiohttp_client: AiohttpClient) -> None:
    asked = 0

    async def authorize(request: web.Request, action: str, store: str, key: str | None) -> bool:
        nonlocal asked
        if key == 'slow':
            asked += 1
            await asyncio.Event().wait()
        return True

    client = await started(aiohttp_client, authorize)
    most = answering.MAX_AUTHORIZING_OF_ONE_CLIENT
    async with AsyncExitStack() as connections:
        for address in OTHERS * (most + 5):
            _, writer = await asyncio.open_connection('127.0.0.1', client.port, local_addr=(address, 0))
            connections.callback(writer.close)
            writer.write(f'GET {PATH}?key=slow HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode())
        await until(lambda: asked >= answering.MAX_VIEWERS)
        await assert_served(client)
        assert asked == len(OTHERS) * most  # authorize is not asked about more at once


async def test_one_client_cannot_take_all_places_in_the_queue() -> None:
    viewers = sending.Viewers(2, 2)

    async def view(client: str) -> None:
        async with viewers.admit(client):
            await asyncio.Event().wait()

    async def views(clients: Iterable[str]) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(view(client)) for client in clients]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks

    waiting = sending.MAX_WAITING_OF_ONE_CLIENT
    ones = await views('a' * (2 + waiting + 5))
    rejected = [task for task in ones if task.done()]
    assert [type(task.exception()) for task in rejected] == [Overloaded] * 5
    others = await views('b' * (waiting + 1))
    assert [task.done() for task in others] == [False] * waiting + [True]
    more = await views(str(number) for number in range(sending.MAX_WAITING))
    assert sum(not task.done() for task in more) == sending.MAX_WAITING - 2 * waiting
    for task in (*ones, *others, *more):
        task.cancel()
    await asyncio.gather(*ones, *others, *more, return_exceptions=True)
    async with viewers.admit('a'), viewers.admit('c'):
        pass
