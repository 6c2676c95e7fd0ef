"""Dump files whose writer is not alone; what every store promises of them is the promise's matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.errors import DumpFileError
from learning_observer_kvs.stores import dump


async def test_a_file_that_is_cut_while_it_is_loaded_is_told_with_what_was_stored(tmp_path: Path) -> None:
    file = tmp_path / 'dump.json'
    lines = (f'"k{number}": {json.dumps("x" * 100)}' for number in range(20_000))
    file.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    stored: dict[str, Any] = {}

    async def store(entries: dict[str, Any]) -> None:
        stored.update(entries)
        file.write_text('')

    with pytest.raises(
        DumpFileError, match=r'dump\.json changed while it was loaded; [\d,]+ of its entries were stored'
    ):
        await dump.read(file, store)
    assert 0 < len(stored) < 20_000
