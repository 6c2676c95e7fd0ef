"""A process that is killed at any moment leaves all of a change or nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.files import plant
from tests.support.killed_writer import check, killer
from tests.support.programs import run

STEPS = ['stage', 'stage', 'stage', 'journal', 'count', 'rename', 'rename', 'rename', 'rename', 'finish']
KILL_AT_EACH_STEP = f"""
import os, signal, sys
from learning_observer_kvs.stores.filesystem.directory import Directory
for number in range({len(STEPS)} + 1):
    if not os.fork():
        steps = []
        def before_step(step):
            steps.append(step)
            if len(steps) == number + 1:
                os.kill(os.getpid(), signal.SIGKILL)
        directory = Directory(f'{{sys.argv[1]}}/{{number}}', before_step=before_step)
        with directory.write_locked():
            directory.change({{'a': b'"new"', 'b': b'"new"', '_c/d': b'"new"', 'gone': None}})
        assert steps == {STEPS}
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    assert status == (7 if number == {len(STEPS)} else -signal.SIGKILL), status
"""


@pytest.mark.parametrize('first', ['multiget', 'one', 'dump', 'write'])
async def test_killed_at_any_step_all_or_nothing_was_written(tmp_path: Path, first: str) -> None:
    old = {'a': 'old', 'b': 'old', 'c/d': 'old', 'gone': 'old'}
    for number in range(len(STEPS) + 1):
        async with FilesystemKVS(tmp_path / str(number), subdirs=True) as store:
            await store.multiset(old)
    run(KILL_AT_EACH_STEP, tmp_path)
    for number in range(len(STEPS) + 1):
        async with FilesystemKVS(tmp_path / str(number), subdirs=True) as store:
            if first == 'multiget':
                found = dict(zip(old, await store.multiget(old), strict=True))
            elif first == 'one':
                found = {key: await store[key] for key in old}
            elif first == 'dump':
                found = {'gone': None, **await store.dump()}
            else:
                await store.set('e', 1)
                found = {key: await store[key] for key in old}
                assert not [name for name in os.listdir(tmp_path / str(number) / META_DIR) if name.startswith('new-')]
            decided = number > STEPS.index('journal')
            assert found == ({'a': 'new', 'b': 'new', 'c/d': 'new', 'gone': None} if decided else old), number


async def killings(root: Path, count: int) -> None:
    seed = random.randrange(1 << 30)
    print('seed', seed)
    highest = interrupted = 0
    with killer('filesystem', root, seed) as program:
        for _ in range(count):
            acknowledged = program.kill_one(highest)
            left = os.listdir(root / META_DIR)
            interrupted += any(name.startswith(('new-', 'journal')) for name in left)
            async with FilesystemKVS(root) as store:
                highest = await check(store, acknowledged)
    assert interrupted, 'no writer was killed during a write'


async def test_a_writer_that_is_killed_leaves_whole_values_and_pairs(root: Path) -> None:
    await killings(root, 20)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_writer_that_is_killed_two_hundred_times_leaves_whole_values_and_pairs(root: Path) -> None:
    await killings(root, 200)


# Journals of other programs


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        '[]',
        '{"../escaped": ".lo_kvs/new-0"}',
        '{"/etc/x": null}',
        '{"k": "/etc/passwd"}',
        '{"k": 1}',
        '{"": null}',
    ],
)
async def test_a_journal_with_foreign_content_is_not_followed(store: FilesystemKVS, root: Path, text: str) -> None:
    await store.set('k', 1)
    plant(root, {f'{META_DIR}/journal': text, f'{META_DIR}/new-0': 'x'})
    for call in (lambda: store['k'], lambda: store.set('k', 2), lambda: store.multiget(['k', 'l']), store.keys):
        with pytest.raises(StoreUnavailable, match=r'journal is damaged.*Remove that file'):
            await call()
    assert os.listdir(root.parent) == ['store']
    (root / META_DIR / 'journal').unlink()
    assert await store['k'] == 1
