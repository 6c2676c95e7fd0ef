"""Dumps to what is not a plain file: links are followed, devices and FIFOs are written to and stay what they are."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stores import dump
from tests.unit.test_dump_writing import encode, entries

ONE = b'{\n"k0": null\n}\n'


async def read_fifo(path: Path) -> bytes:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), 'rb')
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        async with asyncio.timeout(12):
            first = await reader.readexactly(1)  # before a process writes, there is no end
            return first + await reader.read()
    finally:
        transport.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / 'fifo'
    os.mkfifo(path)
    return path


@pytest.mark.parametrize('allow_empty', [True, False])
async def test_a_dump_to_a_fifo_reaches_its_reader_and_leaves_the_fifo(fifo: Path, allow_empty: bool) -> None:
    reading = asyncio.create_task(read_fifo(fifo))
    assert await dump.write(fifo, entries(1), encode, allow_empty=allow_empty) == 1
    assert await reading == ONE
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)
    assert os.listdir(fifo.parent) == ['fifo']


async def test_a_dump_that_is_larger_than_a_pipe_reaches_the_reader_of_a_fifo_whole(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, 'WRITE_BUFFER_BYTES', 1000)
    reading = asyncio.create_task(read_fifo(fifo))
    assert await dump.write(fifo, entries(5000, 'x' * 50), encode) == 5000
    assert (await reading).count(b'\n') == 5002


async def test_a_dump_waits_for_the_reader_of_a_fifo_and_can_be_cancelled_meanwhile(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, 'sleep', sleep)
    writing = asyncio.create_task(dump.write(fifo, entries(1), encode))
    await waits.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_a_fifo_whose_reader_is_gone_is_an_error_with_its_path(fifo: Path) -> None:
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    async def until_closed() -> AsyncIterator[tuple[str, JSON]]:
        os.close(descriptor)
        yield 'k0', None

    with pytest.raises(DumpFileError, match=rf'{fifo} cannot be written: Broken pipe'):
        await dump.write(fifo, until_closed(), encode)


async def test_a_dump_to_a_device_is_written_to_it_and_the_device_stays() -> None:
    leader, follower = os.openpty()
    try:
        name = os.ttyname(follower)
        assert await dump.write(name, entries(1), encode) == 1
        assert os.read(leader, 1000).replace(b'\r\n', b'\n') == ONE
        assert stat.S_ISCHR(os.stat(name).st_mode)
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize('is_there', [True, False])
async def test_a_dump_to_a_link_is_written_where_it_points_to_and_the_link_stays(
    tmp_path: Path, is_there: bool
) -> None:
    (tmp_path / 'folder').mkdir()
    target, link = tmp_path / 'folder' / 'target.json', tmp_path / 'link.json'
    if is_there:
        target.write_text('before')
    link.symlink_to('folder/target.json')
    assert await dump.write(link, entries(1), encode) == 1
    assert link.is_symlink()
    assert target.read_bytes() == ONE
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(target.parent) == ['target.json']


async def test_a_link_to_a_file_is_not_replaced_by_a_dump_without_entries(tmp_path: Path) -> None:
    target, link = tmp_path / 'target.json', tmp_path / 'link.json'
    target.write_text('before')
    link.symlink_to(target)
    with pytest.raises(DumpFileError, match=rf'{link} was left as it is'):
        await dump.write(link, entries(0), encode, allow_empty=False)
    assert target.read_text() == 'before'


async def test_links_that_lead_nowhere_are_an_error_with_the_path(tmp_path: Path) -> None:
    loop, dangling = tmp_path / 'loop', tmp_path / 'dangling'
    loop.symlink_to('loop')
    dangling.symlink_to('none/target.json')
    for link in (loop, dangling):
        with pytest.raises(DumpFileError, match=rf'{link} cannot be written: '):
            await dump.write(link, entries(1), encode)
    assert sorted(os.listdir(tmp_path)) == ['dangling', 'loop']


async def test_an_open_file_without_a_name_is_written_to(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        assert await dump.write(f'/proc/self/fd/{file.fileno()}', entries(1), encode) == 1
        assert file.read() == ONE
    assert os.listdir(tmp_path) == []
