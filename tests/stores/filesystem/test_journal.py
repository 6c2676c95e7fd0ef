"""A process that is killed at any moment leaves all of a change or nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.stores.filesystem.directory import Directory
from learning_observer_kvs.stores.filesystem.journal import IDLE
from learning_observer_kvs.stores.filesystem.names import META_DIR
from learning_observer_kvs.stores.filesystem.store import FilesystemKVS
from tests.support.files import plant, spares
from tests.support.killed_writer import check, killer
from tests.support.programs import run

STEPS = ['stage', 'stage', 'stage', 'journal', 'count', 'rename', 'rename', 'rename', 'rename', 'finish']
OLD = {'a': 'old', 'b': 'old', 'c/d': 'old', 'gone': 'old'}
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


async def kill_at_each_step(folder: Path) -> None:
    """Make stores of ``OLD``, each named by the number of steps after which its writer was killed."""
    for number in range(len(STEPS) + 1):
        async with FilesystemKVS(folder / str(number), subdirs=True) as store:
            await store.multiset(OLD)
    run(KILL_AT_EACH_STEP, folder)


@pytest.mark.parametrize('first', ['multiget', 'one', 'dump', 'write'])
async def test_killed_at_any_step_all_or_nothing_was_written(tmp_path: Path, first: str) -> None:
    await kill_at_each_step(tmp_path)
    for number in range(len(STEPS) + 1):
        async with FilesystemKVS(tmp_path / str(number), subdirs=True) as store:
            if first == 'multiget':
                found = dict(zip(OLD, await store.multiget(OLD), strict=True))
            elif first == 'one':
                found = {key: await store[key] for key in OLD}
            elif first == 'dump':
                found = {'gone': None, **await store.dump()}
            else:
                await store.set('e', 1)
                found = {key: await store[key] for key in OLD}
                assert not spares(tmp_path / str(number))
            decided = number > STEPS.index('journal')
            assert found == ({'a': 'new', 'b': 'new', 'c/d': 'new', 'gone': None} if decided else OLD), number


RECOVERED_DURING_A_READ = f"""
import os, signal, sys
from learning_observer_kvs.stores.filesystem.directory import Directory
def contents(text):
    return {{'a': text, 'b': text, '_c/d': text}}
def change_and_be_killed(root, number):
    if not os.fork():
        steps = []
        def before_step(step):
            steps.append(step)
            if len(steps) == number + 1:
                os.kill(os.getpid(), signal.SIGKILL)
        directory = Directory(root, before_step=before_step)
        with directory.write_locked():
            directory.change(contents(b'"new"'))
        os._exit(0)
    os.wait()
def recover(root):
    with Directory(root).write_locked():
        pass
open_file = os.open
for number in range({len(STEPS)}):
    for moment in range(1, 3):
        root = f'{{sys.argv[1]}}/{{number}}.{{moment}}'
        directory = Directory(root)
        with directory.write_locked():
            directory.change(contents(b'"old"'))
        read = []
        def open_after_that(path, *arguments, **options):
            if path[len(root) + 1 :] in contents(b''):
                read.append(path)
                if len(read) == moment + 1:
                    change_and_be_killed(root, number)
                    recover(root)
            return open_file(path, *arguments, **options)
        os.open = open_after_that
        found = directory.read_together(list(contents(b'')))
        os.open = open_file
        assert len(read) > moment
        assert found in ([b'"old"'] * 3, [b'"new"'] * 3), (number, moment, found)
"""


def test_a_read_during_which_another_process_recovers_is_of_one_moment(tmp_path: Path) -> None:
    run(RECOVERED_DURING_A_READ, tmp_path)


FAILS_AFTER_THE_JOURNAL = """
import errno, os, signal, sys
from learning_observer_kvs.errors import WriteUnclear
from learning_observer_kvs.stores.filesystem.directory import Directory
def fail(step):
    if step == 'count':
        raise OSError(errno.EIO, os.strerror(errno.EIO))
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def refuse(file, *_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
for number, stop in [(number, stop) for number in range(6) for stop in (kill, refuse)]:
    root = f'{sys.argv[1]}/{number}.{stop.__name__}'
    with Directory(root).write_locked():
        Directory(root).change({'a': b'old', 'b': b'old', 'gone': b'old'})
    if not os.fork():
        calls = []
        def stopped(function):
            def call(file, *rest):
                calls.append(file)
                return (stop if len(calls) > number else function)(file, *rest)
            return call
        directory = Directory(root, before_step=fail)
        with directory.write_locked():
            os.unlink, os.ftruncate = stopped(os.unlink), stopped(os.ftruncate)
            try:
                directory.change({'a': b'new', 'b': b'new', 'gone': None})
            except WriteUnclear:
                os._exit(7)
            except OSError:
                os._exit(8)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    found = Directory(root).read_together(['a', 'b', 'gone'])
    assert found in ([b'old'] * 3, [b'new', b'new', None]), (number, stop, status, found)
    assert status == (7 if stop is refuse and number == 0 else -signal.SIGKILL if stop is kill and number < 3 else 8)
"""


def test_a_change_that_fails_after_its_journal_is_withdrawn_whole_or_finished_later(tmp_path: Path) -> None:
    run(FAILS_AFTER_THE_JOURNAL, tmp_path)


async def test_a_key_is_described_as_the_change_of_a_killed_process_leaves_it(tmp_path: Path) -> None:
    await kill_at_each_step(tmp_path)
    for number in range(len(STEPS) + 1):
        async with FilesystemKVS(tmp_path / str(number), subdirs=True) as store:
            is_described = await store.describe('gone') is not None
            assert is_described is (await store['gone'] is not None), number


async def killings(root: Path, count: int) -> None:
    seed = random.randrange(1 << 30)
    print('seed', seed)
    highest = killed = interrupted = 0
    with killer('filesystem', root, seed) as program:
        while killed < count or (not interrupted and killed < 10 * count):  # a change is under way for a moment only
            killed += 1
            acknowledged = program.kill_one(highest)
            interrupted += Directory(str(root)).is_journal_pending()
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
        '{"k": ".lo_kvs/new-0/../../../escaped"}',
        '{"k": 1}',
        '{"k": "l"}',
        '{"k": ".lo_kvs/lock"}',
        '[' * 9999,
        IDLE.decode() + 'x',
        '{"": null}',
    ],
    ids=lambda text: text[:40],
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
