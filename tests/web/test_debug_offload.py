"""``/debug/kvs``: large values are taken apart in a helper process, which may fail, and takes nothing with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from learning_observer_kvs.debug import answers
from learning_observer_kvs.debug.answers import Failure
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.offload import child, frames, process
from learning_observer_kvs.debug.offload.process import Offload
from learning_observer_kvs.debug.pace import Pace
from learning_observer_kvs.debug.values import computing
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.json_codec import encode
from learning_observer_kvs.kvs import KVS
from tests.support.debug_pages import make_app
from tests.support.watched import until

Client = TestClient[web.Request, web.Application]

LARGE = [process.LARGE + 1]

KEY = {'key': 'k'}


@pytest.fixture
async def offload() -> AsyncIterator[Offload]:
    with ThreadPoolExecutor(1) as thread:
        offload = Offload(Pace(thread))
        yield offload
        await offload.end(web.Application())


@pytest.fixture
async def client(aiohttp_client: AiohttpClient, settings: dict[str, Any]) -> Client:
    client: Client = await aiohttp_client(make_app(settings))
    await KVS().set('k', ['x' * 100] * 5000)
    return client


def helpers() -> list[int]:
    """The helper processes of this process."""
    return [int(folder.name) for folder in Path('/proc').iterdir() if folder.name.isdigit() and _is_helper(folder)]


def _is_helper(folder: Path) -> bool:
    try:
        parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
        return parent == os.getpid() and b'debug.offload' in (folder / 'cmdline').read_bytes()
    except OSError:
        return False


# What is called there


def pid() -> int:
    return os.getpid()


def fail(error: BaseException) -> None:
    raise error


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def fill_memory() -> int:
    return len(bytearray(child.MEMORY_BYTES))


def sleep(*_: Any) -> None:
    time.sleep(600)


def chatter() -> int:
    print('what a function prints')
    os.write(1, b'or writes')
    return 1


async def test_small_texts_are_given_to_a_thread_and_large_ones_to_a_process_that_stays(offload: Offload) -> None:
    assert await offload.call([process.LARGE], pid) == os.getpid()
    assert helpers() == []
    first = await offload.call(LARGE, pid)
    assert [first] == helpers()
    assert await offload.call([process.LARGE] * 9, pid) == first
    assert os.getpgid(first) != os.getpgid(0)  # a terminal that interrupts the server lets it finish


@pytest.mark.parametrize('size', [0, frames.LONG_TEXT - 1, frames.LONG_TEXT, 3 * frames.CHUNK + 1])
async def test_texts_arrive_as_they_are(offload: Offload, size: int) -> None:
    text = os.urandom(size)
    assert await offload.call(LARGE, frames.in_chunks, text) == frames.in_chunks(text)
    assert b''.join(frames.in_chunks(text)) == text


@pytest.mark.parametrize('text', [b'{"a": [1, NaN]}', b'"\\ud800"', '["ß"]'.encode('utf-16'), b'nothing'])
async def test_a_value_is_masked_there_as_here(offload: Offload, text: bytes) -> None:
    secret = encode({'a': {'my_auth': 's3cret', 'Password': [1], 'b': '{"token": 1}'}, 'пароль': 'x'})
    for mask in (Mask(), Mask(['пароль']), Mask([])):
        for each in (text, secret):
            outcomes = []
            for sizes in ([1], LARGE):
                try:
                    outcomes.append(await offload.call(sizes, computing.masked_json, 'k', each, mask))
                except CorruptValue as error:
                    outcomes.append(('corrupt', str(error)))  # type: ignore[arg-type]
            assert outcomes[0] == outcomes[1]


async def test_it_does_not_import_the_main_module_and_has_no_text_in_its_arguments(offload: Offload) -> None:
    await offload.call(LARGE, len, b's3cret' * frames.CHUNK)
    modules, main = await offload.call(LARGE, eval, "[*__import__('sys').modules], dir(__import__('__main__'))")
    assert 'pytest' in sys.modules
    assert 'pytest' not in modules
    assert '__file__' not in main
    [helper] = helpers()
    for file in ('cmdline', 'environ'):
        assert b's3cret' not in await asyncio.to_thread(Path(f'/proc/{helper}/{file}').read_bytes)


async def test_what_a_function_raises_is_raised_here_with_where_it_was(offload: Offload) -> None:
    with pytest.raises(CorruptValue, match='is not JSON') as raised:
        await offload.call(LARGE, fail, CorruptValue('is not JSON'))
    assert 'in fail' in ''.join(raised.value.__notes__)
    first = await offload.call(LARGE, pid)
    assert [first] == helpers()


async def test_what_a_function_prints_is_not_taken_for_its_answer(offload: Offload) -> None:
    assert await offload.call(LARGE, chatter) == 1


async def test_its_memory_is_bounded(offload: Offload) -> None:
    with pytest.raises(Failure, match='too much memory'):
        await offload.call(LARGE, fill_memory)
    assert await offload.call(LARGE, len, 'ab') == 2


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSEGV])
async def test_its_death_is_an_error_and_the_next_call_has_another(offload: Offload, number: int) -> None:
    first = await offload.call(LARGE, pid)
    with pytest.raises(Failure, match=rf'has ended \(status {-number}\)\. Try again') as raised:
        await offload.call(LARGE, die, number)
    assert raised.value.status == 503
    assert await offload.call(LARGE, pid) != first


async def test_its_death_between_two_calls_is_an_error_too(offload: Offload) -> None:
    first = await offload.call(LARGE, pid)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(Failure, match='has ended'):
        await offload.call(LARGE, len, b'x' * frames.CHUNK * 10)
    assert await offload.call(LARGE, len, 'ab') == 2


async def test_a_call_that_takes_too_long_is_ended_with_its_process(offload: Offload) -> None:
    first = await offload.call(LARGE, pid)
    with pytest.raises(Failure, match=r'takes longer than 0\.1 s'):
        await offload.call(LARGE, time.sleep, 600, seconds=0.1)
    assert first not in helpers()


async def test_a_call_that_is_not_waited_for_any_more_is_ended_with_its_process(offload: Offload) -> None:
    first = await offload.call(LARGE, pid)
    has_gone = asyncio.Event()
    call = asyncio.create_task(offload.call(LARGE, time.sleep, 600, has_gone=has_gone.is_set))
    await asyncio.sleep(0)
    has_gone.set()
    with pytest.raises(Failure, match='not waited for'):
        await call
    assert first not in helpers()
    call = asyncio.create_task(offload.call(LARGE, time.sleep, 600))
    await until(lambda: bool(helpers()))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert helpers() == []


async def test_calls_have_one_process_in_turn_and_do_not_wait_for_ever(
    offload: Offload, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await asyncio.gather(*(offload.call(LARGE, pid) for _ in range(5)))
    assert [*set(found)] == helpers()
    monkeypatch.setattr(answers, 'PAGE_SECONDS', 0.1)
    long = asyncio.create_task(offload.call(LARGE, time.sleep, 600))
    await asyncio.sleep(0)
    with pytest.raises(Failure, match='Too many large values'):
        await offload.call(LARGE, pid)
    long.cancel()
    await asyncio.gather(long, return_exceptions=True)


async def test_it_ends_when_it_has_had_nothing_to_do_for_a_while(
    offload: Offload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, 'IDLE_SECONDS', 0.01)
    first = await offload.call(LARGE, pid)
    await until(lambda: helpers() == [])
    assert await offload.call(LARGE, pid) != first


async def test_that_it_cannot_be_started_is_said(offload: Offload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'executable', '/nowhere/python')
    with pytest.raises(Failure, match=r'cannot be started: .*nowhere'):
        await offload.call(LARGE, pid)


async def test_the_page_says_that_the_process_has_ended_and_shows_the_value_at_the_next_try(client: Client) -> None:
    assert (await client.get('/debug/kvs/default/key', params=KEY)).status == 200
    [helper] = helpers()
    os.kill(helper, signal.SIGKILL)
    for path in ('key', 'raw', 'part', 'matches'):
        answer = await client.get(f'/debug/kvs/default/{path}', params={**KEY, 'text': 'x'})
        assert (answer.status, 'has ended (status -9)' in (await answer.json())['error']) == (503, True)
        assert (await client.get('/debug/kvs/default/key', params=KEY)).status == 200
        os.kill(helpers()[0], signal.SIGKILL)


@pytest.mark.parametrize('is_new', [True, False])
async def test_a_server_that_stops_ends_it_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    if not is_new:
        assert (await client.get('/debug/kvs/default/key', params=KEY)).status == 200
    monkeypatch.setattr(computing, 'masked_json', sleep)
    page = asyncio.create_task(client.get('/debug/kvs/default/key', params=KEY))
    await until(lambda: bool(helpers()))
    began = time.monotonic()
    await client.server.close()
    assert time.monotonic() - began < 30
    assert helpers() == []
    await asyncio.gather(page, return_exceptions=True)
