"""What the stores of Learning Observer have written is read as it is: names of files, directories, texts in Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.redis.connection import RedisConnection
from learning_observer_kvs.stores.redis.store import PersistentRedisKVS

DATA: dict[str, Any] = {
    'Internal,writing_observer.writing_analysis.reconstruct,EventField.doc_id:1AbC_-x,STUDENT:ls-Jos%C3%A9': {
        'text': 'naïve café \U0001f600\n',
        'edit_metadata': {'cursor': [2, 3], 'length': [1]},
        'timestamps': {'1700000000.5': [1, 2.0, None, True]},
    },
    'External,writing_observer.writing_analysis.reconstruct,EventField.doc_id:1AbC_-x,STUDENT:ls-Jos%C3%A9': None,
    'Internal,a.b,EventField.doc_id:None,STUDENT:[guest]': 12345678901234567890123,
    '{"args": ["Straße", 1], "func": "fetch"}': 'just a string',
    'łatwy': 0,
}
WITH_SLASHES = DATA | {'drive/v3/files?id=1&x=y': {'kind': 'drive#file'}, 'drive/v3': [], 'top': False}


def runtime_name(name: str) -> str:
    """A name as they write it: characters that are neither letters nor digits by their code points."""
    return ''.join(c if c.isalnum() or c.isidentifier() else f'-{ord(c)}-' for c in name)


def write_as_the_runtime(directory: Path, data: dict[str, Any], subdirs: bool) -> None:
    for key, value in data.items():
        *above, last = key.split('/') if subdirs else [key]
        path = directory.joinpath(*(runtime_name('_' + part) for part in above), runtime_name(last))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=4))


def files(directory: Path) -> dict[Path, bytes]:
    """The contents of the files below a directory but hidden ones."""
    found = (path for path in directory.rglob('*') if path.is_file())
    named = {path.relative_to(directory): path.read_bytes() for path in found}
    return {path: content for path, content in named.items() if not path.parts[0].startswith('.')}


@pytest.mark.parametrize('subdirs', [False, True])
async def test_a_directory_of_the_runtime_is_read_as_it_is(tmp_path: Path, subdirs: bool) -> None:
    write_as_the_runtime(tmp_path, WITH_SLASHES, subdirs)
    before = files(tmp_path)
    async with FilesystemKVS(tmp_path, subdirs) as store:
        assert await store.dump() == WITH_SLASHES
        assert await store.multiget(list(WITH_SLASHES)) == list(WITH_SLASHES.values())
    assert files(tmp_path) == before


@pytest.mark.parametrize('subdirs', [False, True])
async def test_what_is_written_has_the_names_of_the_runtime(tmp_path: Path, subdirs: bool) -> None:
    write_as_the_runtime(tmp_path / 'old', WITH_SLASHES, subdirs)
    async with FilesystemKVS(tmp_path / 'new', subdirs) as store:
        await store.multiset(WITH_SLASHES)
    old, new = files(tmp_path / 'old'), files(tmp_path / 'new')
    assert {path: json.loads(text) for path, text in new.items()} == {
        path: json.loads(text) for path, text in old.items()
    }


@pytest.mark.parametrize('ascii_only', [True, False])
async def test_texts_of_the_runtime_in_redis_are_read_as_they_are(redis: RedisConnection, ascii_only: bool) -> None:
    client = redis.client()
    for key, value in DATA.items():
        await client.set(key, json.dumps(value, ensure_ascii=ascii_only))
    async with PersistentRedisKVS(connection=redis) as store:
        assert await store.dump() == DATA
        assert await store.update('łatwy', lambda value: value + 1) == 1
        assert await store.compare_and_set('{"args": ["Straße", 1], "func": "fetch"}', 'just a string', [])
    assert await client.get('łatwy') == b'1'


async def test_a_nan_that_was_written_into_redis_can_be_read(redis: RedisConnection) -> None:
    await redis.client().set('Internal,a.b,STUDENT:bob', json.dumps({'mean': float('nan'), 'n': 0}))
    async with PersistentRedisKVS(connection=redis) as store:
        value: Any = await store['Internal,a.b,STUDENT:bob']
    assert value['mean'] != value['mean']
    assert value['n'] == 0
