"""After an erasure no file has anything of the student, and what could not be searched is named."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import UnknownStudent
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy.erasure import erase
from learning_observer_kvs.stores import suppression
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from learning_observer_kvs.testing.changes import following, keys_until

BOB, EVE = ('Internal,m.r,STUDENT:bob', 'Internal,m.r,STUDENT:eve')
BOB, EVE = ('Internal,m.r,STUDENT:bob', 'Internal,m.r,STUDENT:eve')
ROSTER = {'students': [{'id': 'bob', 'email': 'b@x'}, {'id': 'eve'}]}
DATA = {BOB: {'n': 1}, EVE: {'n': 2}, 'roster:7': ROSTER, 'email-studentID-mapping:b@x': 'bob'}


async def erased(store: Store, *ids: str, at: float | None = None) -> None:
    clock = time.time if at is None else lambda: at
    assert (await erase({'default': store}, Ids(ids), who='a test', clock=clock)).is_complete


async def files_with(text: str, folder: Path) -> str:
    """The files of a folder that have a text; read here it would take SQLite's locks away."""
    grep = ['grep', '-rlaF', text, str(folder)]
    found = await asyncio.to_thread(subprocess.run, grep, capture_output=True, text=True, check=False)
    return found.stdout


@pytest.mark.parametrize('kind', [FilesystemKVS, SQLiteKVS])
async def test_the_log_of_changes_has_no_key_of_the_student_and_those_who_read_it_go_on(
    tmp_path: Path, kind: type[Store]
) -> None:
    make: Any = kind
    async with make(tmp_path / 'state') as store, make(tmp_path / 'state') as writer, store.changes() as changes:
        await writer.multiset(DATA)
        await erased(writer, 'bob', 'b@x')
        assert await files_with('STUDENT:bob', tmp_path) == ''
        await writer.set('b', 1)
        seen = [(await following(changes))]
        while seen[-1].kind != 'resync':
            seen.append(await following(changes))
        await writer.set('c', 1)
        await keys_until(changes, 'c')
        await writer.set('d', 1)
        assert (await following(changes)).key == 'd'


@pytest.mark.parametrize('kind', [FilesystemKVS, SQLiteKVS])
async def test_of_a_student_who_is_in_a_roster_alone_no_file_has_anything(tmp_path: Path, kind: type[Store]) -> None:
    make: Any = kind
    async with make(tmp_path / 'state') as server, make(tmp_path / 'state') as store:
        for number in range(3):
            await server.set('roster:7', {'students': [{'id': 'eve'}, {'id': 'bob', 'name': 'Bob'}], 'n': number})
        await erased(store, 'bob')
        assert await files_with('bob', tmp_path) == ''
        await server.set('roster:7', {'students': []})
        assert await files_with('bob', tmp_path) == ''


@pytest.mark.parametrize('kind', [FilesystemKVS, SQLiteKVS])
async def test_an_erasure_that_was_interrupted_before_its_end_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Store]
) -> None:
    async def killed(store: Store) -> None:
        raise asyncio.CancelledError

    make: Any = kind
    async with make(tmp_path / 'state') as store, make(tmp_path / 'state') as reader:
        await store.multiset(DATA)
        await erased(store, 'eve', at=1.0)
        async with reader.changes():
            monkeypatch.setattr(kind, 'scrub', killed)
            with pytest.raises(asyncio.CancelledError):
                await erased(store, 'bob', 'b@x', at=2.0)
            monkeypatch.undo()
            assert await files_with('STUDENT:bob', tmp_path) != ''
            for ids in (['ann'], ['bob', 'b@x']):
                with pytest.raises(UnknownStudent):
                    await erased(store, *ids, at=3.0)
            assert await files_with('STUDENT:bob', tmp_path) == ''
        found = await suppression.read(store)
        assert [found.erased(text) for text in ('eve', 'ann', 'bob', 'b@x')] == [1.0, None, 3.0, 3.0]


async def test_what_no_call_can_read_is_named_as_not_searched(redis: RedisConnection) -> None:
    async with PersistentRedisKVS(connection=redis) as store:
        await store.set(BOB, 1)
        for number in range(25):
            await redis.client().rpush(f'list-{number}', 'bob')
        receipt = await erase({'default': store}, Ids(['bob']), who='a test')
        assert receipt.is_complete
        assert len(receipt.not_reached) == 21
        assert sum('holds a list' in text for text in receipt.not_reached) == 20
        assert '5 more keys' in receipt.not_reached[-1]
        await redis.client().flushdb()
