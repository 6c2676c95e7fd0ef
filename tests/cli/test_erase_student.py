"""``lo-kvs erase-student`` while servers run that keep what is to be written."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs.cli import erase_student
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.cli.unwritten import longest_interval
from learning_observer_kvs.errors import UnknownStudent
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.privacy.erasure import Receipt, erase
from learning_observer_kvs.queries.remove import MAX_SEARCHES
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.reducers.erased_students import FLUSH_TIME
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.memory import InMemoryKVS
from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.disks import files_of_at_most
from tests.support.watched import count

ROOT = str(Path(__file__).parent.parent.parent)
BOB = [f'{state},a.r,STUDENT:bob' for state in ('Internal', 'External')]
EVE = [f'{state},a.r,STUDENT:eve' for state in ('Internal', 'External')]

SERVER = """
import asyncio, sys
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer

@student_event_reducer(null_state={'seen': []}, module_override='a', qualname_override='r')
async def r(event, state):
    return {'seen': [*state['seen'], event]}, len(state['seen'])

async def main():
    async with KVSRouter.from_settings('creds.yaml') as router:
        for student in ('bob', 'eve'):
            process_event = await r({'auth': {'safe_user_id': student}}, router=router)
            for number in range(int(sys.argv[1])):
                await process_event(number)
        await router().flush()
        for student in ('bob', 'eve'):
            process_event = await r({'auth': {'safe_user_id': student}}, router=router)
            for number in range(int(sys.argv[2])):
                await process_event(number)
        print('ready', flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.sleep(2 * router().flush_interval)

asyncio.run(main())
"""


@contextmanager
def running(folder: Path, before: int, after: int) -> Iterator[None]:
    """A server that has flushed some events of bob and eve, and keeps some others."""
    with subprocess.Popen(
        [sys.executable, '-W', 'error', '-c', SERVER, str(before), str(after)],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
        yield
        process.communicate('\n', 20)
        assert process.returncode == 0


def erase_bob(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'learning_observer_kvs.cli', 'erase-student', 'bob', '--yes'],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': ROOT},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


STORES = {
    'sqlite': '{type: sqlite, path: state.sqlite3, flush_interval: 0.3}',
    'filesystem': '{type: filesystem, path: states, flush_interval: 0.3}',
}


@pytest.mark.parametrize('options', STORES.values(), ids=STORES)
@pytest.mark.parametrize(('before', 'after'), [(5, 2), (0, 2)], ids=['flushed before', 'all pending'])
def test_what_a_running_server_keeps_of_the_student_does_not_come_back(
    tmp_path: Path, options: str, before: int, after: int
) -> None:
    (tmp_path / 'creds.yaml').write_text(f'kvs: {{default: {options}}}\n')
    with running(tmp_path, before, after):
        ended = erase_bob(tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert re.search(r'default \(.*\): 2 states erased', ended.stderr)

    async def left() -> list[str]:
        async with KVSRouter.from_settings([str(tmp_path / 'creds.yaml')]) as router:
            return await router().keys()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert sorted(asyncio.run(left())) == sorted(EVE)


async def erased(store: Store, interval: float, sleep: Any = None) -> Receipt:
    return await erase({'default': store}, Ids(['bob']), who='a test', interval=interval, sleep=sleep or asyncio.sleep)


@pytest.mark.parametrize('options', [['find-student'], ['find-student', '--json'], ['erase-student', '--dry-run']])
def test_a_list_of_places_shows_nothing_of_what_a_memoized_call_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stores = '{default: {type: sqlite, path: s}, memoization: {type: sqlite, path: m}}'
    Path('creds.yaml').write_text(f'kvs: {stores}')
    for store, key in (
        ('default', json.dumps(['lt.grammar', 'bob', 'My essay'])),
        ('memoization', json.dumps(['lt.grammar', {'student': 'bob', 'text': 'My essay'}])),
        ('memoization', json.dumps({'student': 'bob', 'text': 'My essay'})),
        ('memoization', 'My essay, by: bob'),
    ):
        assert CliRunner().invoke(main, ['set', key, '1', '--store', store]).exit_code == 0
    said = CliRunner().invoke(main, [*options, 'bob']).output
    assert 'essay' not in said
    assert said.count('lt.grammar (') == 2
    assert said.count('a memoized result (') == 2


async def test_keys_that_come_back_each_time_are_a_failure() -> None:
    store, waited = InMemoryKVS(), []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await worker_of(store).process(BOB[0], BOB[1], count)

    await worker_of(store).process(BOB[0], BOB[1], count)
    receipt = await erased(store, 3.0, sleep)
    assert receipt.erased.total() == 2 * MAX_SEARCHES
    assert not receipt.is_complete
    assert waited == [3.0 + FLUSH_TIME] * (MAX_SEARCHES - 1)


def test_a_failure_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def in_vain(*arguments: object, **options: object) -> Receipt:
        return Receipt('bob', [], 'a test', '', remaining=['end the sessions'])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(erase_student, 'erase', in_vain)
    (tmp_path / 'files').mkdir()
    (tmp_path / 'files' / 'Internal-44-a-46-r-44-STUDENT-58-bob').write_text('1\n')
    (tmp_path / 'creds.yaml').write_text(f'kvs: {{default: {{type: filesystem, path: {tmp_path}/files}}}}\n')
    with pytest.raises(SystemExit) as ended:
        erase_student.command.main(['bob', '--yes'], standalone_mode=False)
    assert ended.value.code == 1
    assert 'Not erased: end the sessions' in capsys.readouterr().err


@pytest.mark.parametrize(('interval', 'waits'), [(0.0, 0), (3.0, 1)])
async def test_a_student_without_keys_is_searched_again_where_servers_may_keep_some(
    interval: float, waits: int
) -> None:
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    with pytest.raises(UnknownStudent):
        await erased(InMemoryKVS(), interval, sleep)
    assert len(waited) == waits


async def test_without_flush_interval_it_is_searched_again_at_once(tmp_path: Path) -> None:
    async with SQLiteKVS(tmp_path / 'k.sqlite3') as store:
        await store.multiset(dict.fromkeys([*BOB, *EVE], 1))
        async with asyncio.timeout(20):
            receipt = await erased(store, 0.0)
        assert receipt.is_complete
        assert receipt.erased.total() == 2
        assert sorted(await store.keys()) == sorted(EVE)


def test_the_longest_interval_of_all_stores_counts() -> None:
    stub = {'type': 'stub'}
    stores = {'default': stub, 'a': stub | {'flush_interval': 2}, 'b': stub | {'flush_interval': 7.5}}
    assert longest_interval(KVSRouter.from_settings({'kvs': stores})) == 7.5
    assert longest_interval(KVSRouter.from_settings({'kvs': {'default': stub}})) == 0.0


def test_the_receipt_is_made_before_anything_is_erased_and_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}}')
    Path('taken.json').write_text('mine')

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, words)

    for _ in range(2):
        assert run('set', BOB[0], '1').exit_code == 0
        for path in ('taken.json', 'no/folder.json'):
            refused = run('erase-student', 'bob', '--yes', '--receipt', path)
            assert refused.exit_code == 2
            assert path in refused.stderr
        assert run('get', BOB[0]).exit_code == 0
        assert run('erase-student', 'bob', '--yes').exit_code == 0
    assert Path('taken.json').read_text() == 'mine'
    receipts = list(tmp_path.glob('erasure-*.json'))
    assert [json.loads(path.read_text())['complete'] for path in receipts] == [True, True]
    assert {path.stat().st_mode & 0o777 for path in receipts} == {0o600}


def _sleeps(pid: int) -> bool:
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'S'


@pytest.mark.parametrize('is_interrupted', [True, False])
def test_ctrl_c_at_a_question_ends_it_at_once(
    is_interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}}')
    assert CliRunner().invoke(main, ['set', BOB[0], '1']).exit_code == 0
    with subprocess.Popen(
        [sys.executable, '-m', 'learning_observer_kvs.cli', 'erase-student', 'bob'],
        env=os.environ | {'PYTHONPATH': ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        said = b''
        while not said.endswith(b'Type the id of the student to erase this: '):
            said += process.stderr.read(1)
        if is_interrupted:
            while not _sleeps(process.pid):  # it reads the answer; a signal just before that is seen too late
                pass
            process.send_signal(signal.SIGINT)
        else:
            process.stdin.close()
        assert process.wait(30) == (130 if is_interrupted else 1)
        rest = process.stderr.read().strip()
    assert rest == (b'Interrupted. Nothing was erased.' if is_interrupted else b'Aborted!')
    assert CliRunner().invoke(main, ['get', BOB[0]]).exit_code == 0


@pytest.mark.parametrize('as_json', [True, False])
def test_a_receipt_that_the_disk_has_no_space_for_is_printed(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: filesystem, path: f}}')
    assert CliRunner().invoke(main, ['set', BOB[0], '1']).exit_code == 0
    with ExitStack() as stack:

        async def then_full(*arguments: Any, **options: Any) -> Receipt:
            done = await erase(*arguments, **options)
            stack.enter_context(files_of_at_most(10))
            return done

        monkeypatch.setattr(erase_student, 'erase', then_full)
        done = CliRunner().invoke(main, ['erase-student', 'bob', '--yes', *['--json'] * as_json])
    assert done.exit_code == 1
    assert 'cannot be written: File too large. Keep the receipt that is printed.' in done.stderr
    found = json.loads(done.stdout[done.stdout.index('{') :])
    assert (found['student'], found['complete'], found.get('receipt')) == ('bob', True, None)
    assert sorted(os.listdir()) == ['creds.yaml', 'f']


def test_it_asks_for_each_alias_and_for_the_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}}')
    roster = [{'id': 'bob', 'email': 'b@x'}, {'id': 'b2', 'email': 'b@x'}]
    for key, value in ((BOB[0], 1), ('Internal,a.r,STUDENT:b@x', 1), ('roster', roster)):
        assert CliRunner().invoke(main, ['set', key, json.dumps(value)]).exit_code == 0

    def erased(typed: str, *words: str) -> Result:
        return CliRunner().invoke(main, ['erase-student', 'bob', *words], input=typed)

    assert 'That is not the id' in erased('n\nBob\n').stderr
    assert erased('').exit_code == 1
    assert CliRunner().invoke(main, ['get', BOB[0]]).exit_code == 0
    refused = erased('y\nn\n')  # the address is bob's, and a sister has it too
    assert 'no rule' in refused.stderr
    done = erased('y\nn\nbob\n', '--leave', 'default:roster')
    assert done.exit_code == 0, done.output
    assert "Is 'b2' the same student?" in done.stderr
    assert CliRunner().invoke(main, ['keys']).stdout == 'roster\n'
    assert json.loads(CliRunner().invoke(main, ['get', 'roster']).stdout) == roster[1:]
    assert list(tmp_path.glob('erasure-*.json')) != []
