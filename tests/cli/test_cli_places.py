"""``lo-kvs``: which settings it reads, where stores are, and that what only reads creates nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs.cli.main import COMMANDS, main
from learning_observer_kvs.kvs import KVSRouter
from tests.support.disks import foreign_directory, read_only

Run = Callable[..., Result]

CREDS = """\
kvs:
  default: {type: sqlite, path: data/state.sqlite3}
  files: {type: filesystem, path: data/files}
  cache: {type: stub}
"""

READING = {
    'keys': ['keys'],
    'get': ['get', 'k'],
    'remove': ['remove', 'k'],
    'dump': ['dump', 'backup.json'],
    'remove-reducer': ['remove-reducer', 'a.r'],
    'remove-reducer --yes': ['remove-reducer', 'a.r', '--yes'],
}
OF_A_STUDENT = {
    'find-student': ['find-student', 'bob'],
    'erase-student': ['erase-student', 'bob', '--yes'],
    'erase-student --dry-run': ['erase-student', 'bob', '--dry-run'],
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in an empty directory, beside one with a ``creds.yaml``."""
    (tmp_path / 'here').mkdir()
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there' / 'creds.yaml').write_text(CREDS)
    monkeypatch.chdir(tmp_path / 'here')
    return lambda *words: CliRunner().invoke(main, words)


def fill(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stores of ``creds.yaml`` in a directory."""

    async def write() -> None:
        async with KVSRouter.from_settings(str(directory.parent / 'there' / 'creds.yaml')) as router:
            for store in (router(), router.files()):
                await store.set('k', 1)

    with monkeypatch.context() as patch:
        patch.chdir(directory)
        asyncio.run(write())


def made(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob('*')}


@pytest.mark.parametrize('words', READING.values(), ids=READING)
@pytest.mark.parametrize(('store', 'path'), [('default', 'data/state.sqlite3'), ('files', 'data/files')])
def test_a_store_that_is_not_there_is_named_with_its_path_and_status_3_and_is_not_made(
    run: Run, tmp_path: Path, words: list[str], store: str, path: str
) -> None:
    result = run(*words, '-c', '../there/creds.yaml', '-s', store)
    assert (result.exit_code, result.stdout) == (3, '')
    assert f'{tmp_path}/here/{path}' in result.stderr
    assert made(tmp_path) == {'here', 'there', 'there/creds.yaml'}


@pytest.mark.parametrize('words', OF_A_STUDENT.values(), ids=OF_A_STUDENT)
def test_where_no_store_is_there_a_student_is_not_said_to_be_unknown(
    run: Run, tmp_path: Path, words: list[str]
) -> None:
    result = run(*words, '-c', '../there/creds.yaml')
    assert (result.exit_code, result.stdout) == (3, '')
    assert f'{tmp_path}/here/data/state.sqlite3' in result.stderr
    assert made(tmp_path) == {'here', 'there', 'there/creds.yaml'}


@pytest.mark.parametrize('words', OF_A_STUDENT.values(), ids=OF_A_STUDENT)
def test_a_store_that_is_not_there_or_in_memory_is_named_as_not_searched(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    fill(tmp_path / 'here', monkeypatch)
    shutil.rmtree(tmp_path / 'here' / 'data' / 'files')
    result = run(*words, '-c', '../there/creds.yaml')
    assert result.exit_code == 1
    assert f'Not searched: Store {"files"!r}: There is no folder: {tmp_path}/here/data/files' in result.stderr
    assert 'memory of the process that uses it' in result.stderr
    assert not (tmp_path / 'here' / 'data' / 'files').exists()


def test_a_missing_store_is_not_copied_from_and_the_other_one_is_not_made(run: Run, tmp_path: Path) -> None:
    result = run('copy', 'files', 'default', '-c', '../there/creds.yaml')
    assert (result.exit_code, result.stdout) == (3, '')
    assert made(tmp_path / 'here') == set()


@pytest.mark.parametrize('words', READING.values(), ids=READING)
def test_a_stub_that_is_read_is_missing(run: Run, words: list[str]) -> None:
    result = run(*words, '-c', '../there/creds.yaml', '-s', 'cache')
    assert (result.exit_code, result.stdout) == (3, '')
    assert 'memory of the process that uses it' in result.stderr


@pytest.mark.parametrize('store', ['default', 'files'])
def test_a_missing_store_that_is_beside_the_settings_is_named_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    fill(tmp_path / 'there', monkeypatch)
    result = run('keys', '-c', '../there/creds.yaml', '-s', store)
    assert result.exit_code == 3
    assert f'{tmp_path}/there/data/{"state.sqlite3" if store == "default" else "files"} exists' in result.stderr
    assert f'Run this in {tmp_path}/there' in result.stderr
    assert 'KVS.W018' in run('check', '-c', '../there/creds.yaml').stdout
    monkeypatch.chdir(tmp_path / 'there')
    assert run('keys', '-s', store).stdout == 'k\n'
    assert 'KVS.W018' not in run('check').stdout


ANSWERS = {
    'keys': ['keys'],
    'get': ['get', 'k'],
    'get of a missing key': ['get', 'x'],
    'set': ['set', 'a', '1'],
    'remove': ['remove', 'k'],
    'remove of a missing key': ['remove', 'x'],
    'dump': ['dump'],
    'dump to a file': ['dump', 'backup.json'],
    'load': ['load', '../some.json'],
    'erase-student': ['erase-student', 'bob'],
    'erase-student --dry-run': ['erase-student', 'bob', '--dry-run'],
    'remove-reducer': ['remove-reducer', 'a.r'],
    'remove-reducer --yes': ['remove-reducer', 'a.r', '--yes'],
    'copy': ['copy', 'default', 'files'],
    'check': ['check'],
}


@pytest.mark.parametrize('words', ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize('as_json', [False, True])
def test_every_answer_names_the_absolute_path_as_text_and_as_json(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], as_json: bool
) -> None:
    (tmp_path / 'some.json').write_text('{"k": 1}')
    fill(tmp_path / 'here', monkeypatch)
    result = run(*words, '../there/creds.yaml', *['--json'] * as_json)
    assert result.exit_code in (0, 1)
    assert f'{tmp_path}/here/data/state.sqlite3' in result.output
    if as_json:
        json.loads(result.stdout or result.stderr)


@pytest.mark.parametrize('name', ['creds.yaml', 'creds.yml', 'creds.pmss'])
@pytest.mark.parametrize('command', [name for name in COMMANDS if name not in ('serve', 'replay')])
def test_every_command_takes_its_settings_as_an_argument_as_config_and_as_c(run: Run, name: str, command: str) -> None:
    words = {'copy': ['a', 'b'], 'load': ['x'], 'set': ['k', '1']}.get(command, ['k'])
    words = [] if command in ('check', 'keys', 'dump', 'expire', 'stats') else words
    for given in ([name], ['--config', name], ['-c', name]):
        result = run(command, *words, *given)
        assert result.exit_code == 1
        assert f'{name}  the file does not exist' in result.output


def test_arguments_behind_two_dashes_are_what_they_are(run: Run) -> None:
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}}')
    assert run('set', '--', 'other.yaml', '1').exit_code == 0
    assert run('get', '--', 'other.yaml').stdout == '1\n'
    assert run('keys', '--match', 'other.yaml').stdout == 'other.yaml\n'


def test_a_store_on_a_disk_that_cannot_be_written_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with foreign_directory() as directory:
        monkeypatch.chdir(directory)
        Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}, files: {type: filesystem, path: f}}')
        for store in ('default', 'files'):
            assert run('set', 'k', '1', '-s', store).exit_code == 0
        before = sorted(os.listdir())
        with read_only(directory):
            for store in ('default', 'files'):
                assert run('keys', '-s', store).stdout == 'k\n'
                assert run('get', 'k', '-s', store).stdout == '1\n'
                assert json.loads(run('dump', '-s', store).stdout) == {'k': 1}
                refused = run('set', 'k', '2', '-s', store)
                assert refused.exit_code == 1
                assert 'cannot be used' in refused.stderr
        assert sorted(os.listdir()) == before


def test_files_that_look_like_keys_and_are_not_are_reported_by_dump_copy_and_check(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / 'there', monkeypatch)
    monkeypatch.chdir(tmp_path / 'there')
    strange = os.fsdecode(b'caf\xe9')
    assert run('check', '--live').exit_code == 0
    assert 'KVS.W017' not in run('check', '--live').stdout
    (tmp_path / 'there' / 'data' / 'files' / strange).write_text('1')
    for words in (['dump', '-s', 'files'], ['dump', 'b.json', '-s', 'files'], ['copy', 'files', 'default']):
        result = run(*words)
        assert result.exit_code == 1
        assert "files that look like keys and are not: '" in result.stderr
        assert r'caf\udce9' in result.stderr
        assert 'Verified' not in result.output
    assert json.loads(Path('b.json').read_text()) == {'k': 1}
    report = json.loads(run('copy', 'files', 'default', '--json').stdout)
    assert (report['verified'], len(report['unrecognized'])) == (False, 1)
    assert 'KVS.W017' in run('check', '--live').stdout
