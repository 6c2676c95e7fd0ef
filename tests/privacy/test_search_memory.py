"""A search for a student has few values in memory at once, however large some of them are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.privacy import search
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from learning_observer_kvs.stores.reads import CHUNK_BYTES
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS

SIZES = [*[200_000] * 12, *[10] * 300, *[400_000] * 12, 2 * CHUNK_BYTES, *[10] * 10]


@pytest.mark.parametrize('kind', [SQLiteKVS, FilesystemKVS])
async def test_values_are_read_by_their_bytes(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kind(tmp_path / 'state') as store:
        for number, size in enumerate(SIZES):
            await store.set(f'k{number:03}', ['bob', 'x' * size])
        read: list[list[int]] = []
        read_until = store.read_until

        async def noted(deadline: float, keys: Sequence[str]) -> list[bytes | None]:
            texts: list[bytes | None] = await read_until(deadline, keys)
            read.append([len(text or b'') for text in texts])
            return texts

        monkeypatch.setattr(store, 'read_until', noted)
        found = [place.key async for place in search.find({'default': store}, Ids(['bob']))]
        assert sorted(map(str, found)) == [f'k{number:03}' for number in range(len(SIZES))]
    assert max(sum(sizes) for sizes in read if len(sizes) > 1) <= CHUNK_BYTES
    assert len(read) < 30
