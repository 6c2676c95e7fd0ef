"""Directories that the versions before wrote, and processes of theirs beside those of this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from learning_observer_kvs.stores.filesystem.directory import ChangeStep, Directory
from learning_observer_kvs.stores.filesystem.journal import JOURNAL
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.programs import run
from tests.support.version_before import DirectoryBefore

OLD = dict.fromkeys(['a', 'b', 'c', 'gone'], 'old')
NEW = {'a': 'new', 'b': 'new', 'c': 'new', 'gone': None}
STEPS = ['stage', 'stage', 'stage', 'journal', 'count', 'rename', 'rename', 'rename', 'rename', 'finish']
"""The steps of a change that removes one file of four, in either version."""

KILLED_AT_EACH_STEP = f"""
import os, signal, sys
from pathlib import Path
from learning_observer_kvs.stores.filesystem.directory import Directory
from tests.support.version_before import DirectoryBefore
contents = {{'a': b'"new"', 'b': b'"new"', 'c': b'"new"', 'gone': None}}
for number in range({len(STEPS)}):
    steps = []
    def before_step(step):
        steps.append(step)
        if len(steps) == number + 1:
            os.kill(os.getpid(), signal.SIGKILL)
    root = Path(sys.argv[1], str(number))
    DirectoryBefore(root).change(dict.fromkeys(contents, b'"old"'))
    if not os.fork():
        if sys.argv[2] == 'before':
            DirectoryBefore(root, before_step).change(contents)
        else:
            directory = Directory(str(root), before_step=before_step)
            with directory.write_locked():
                directory.change(contents)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
"""


def read_before(root: Path) -> dict[str, str | None]:
    """What a process of the version before finds."""
    found = DirectoryBefore(root).read(list(OLD))
    return {key: None if text is None else json.loads(text) for key, text in zip(OLD, found, strict=True)}


@pytest.mark.parametrize('first', ['one', 'several', 'write', 'keys'])
async def test_what_a_process_of_the_version_before_left_is_finished(tmp_path: Path, first: str) -> None:
    run(KILLED_AT_EACH_STEP, tmp_path, 'before')
    for number in range(len(STEPS)):
        async with FilesystemKVS(tmp_path / str(number)) as store:
            if first == 'one':
                await store['c']
            elif first == 'write':
                await store.multiset({'d': 1, 'e': 1})
            elif first == 'keys':
                await store.keys()
            found = dict(zip(OLD, await store.multiget(OLD), strict=True))
            assert found == (NEW if number > STEPS.index('journal') else OLD)
            await store.multiset(OLD)
            assert await store.multiget(OLD) == list(OLD.values())


async def test_what_a_killed_process_of_this_version_left_is_never_read_in_part_by_the_version_before(
    tmp_path: Path,
) -> None:
    run(KILLED_AT_EACH_STEP, tmp_path, 'this')
    for number in range(len(STEPS)):
        root = tmp_path / str(number)
        decided = number > STEPS.index('journal')
        if decided:
            with pytest.raises(ValueError, match='damaged'):
                read_before(root)
            with pytest.raises(ValueError, match='damaged'):
                DirectoryBefore(root).change({'a': b'1', 'b': b'1'})
        else:
            assert read_before(root) == OLD
        async with FilesystemKVS(root) as store:
            assert dict(zip(OLD, await store.multiget(OLD), strict=True)) == (NEW if decided else OLD)
        assert read_before(root) == (NEW if decided else OLD)


WRITE_BEFORE = """
import sys
from pathlib import Path
from tests.support.version_before import DirectoryBefore
directory = DirectoryBefore(Path(sys.argv[1]))
for number in range(200):
    text = b'%d' % number
    directory.change({'before-44-1': text, 'before-44-2': text})
    one, two = directory.read(['this-44-1', 'this-44-2'])
    assert one == two, (one, two)
"""
WRITE_THIS = """
import asyncio, sys
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
async def main():
    async with FilesystemKVS(sys.argv[1]) as store:
        for number in range(200):
            await store.multiset({'this,1': number, 'this,2': number})
            one, two = await store.multiget(['before,1', 'before,2'])
            assert one == two, (one, two)
asyncio.run(main())
"""
BOTH = """
import subprocess, sys
programs = [subprocess.Popen([sys.executable, '-c', text, sys.argv[1]]) for text in sys.argv[2:]]
assert [program.wait() for program in programs] == [0] * len(programs)
"""


async def test_both_versions_write_and_read_pairs_at_the_same_time(root: Path) -> None:
    run(BOTH, root, WRITE_BEFORE, WRITE_THIS, WRITE_BEFORE.replace('before-44-', 'another-44-'), WRITE_THIS)
    async with FilesystemKVS(root) as store:
        assert await store.multiget(['this,1', 'this,2', 'before,1', 'before,2']) == [199] * 4


def test_a_journal_that_the_version_before_replaced_is_not_written_to(root: Path) -> None:
    directory, before = Directory(str(root)), DirectoryBefore(root)

    def change(text: bytes) -> None:
        with directory.write_locked():
            directory.change({'a': text, 'b': text})

    change(b'1')
    before.change({'a': b'2', 'b': b'2'})  # which removes it
    seen: list[int] = []

    def note(step: ChangeStep) -> None:
        if step == 'finish':
            seen.append((root / JOURNAL).stat().st_size)

    directory.before_step = note
    change(b'3')
    assert len(seen) == 1
    assert seen[0] > (root / JOURNAL).stat().st_size
    assert before.read(['a', 'b']) == [b'3', b'3']
