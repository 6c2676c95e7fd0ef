"""``lo-kvs``: what each command does on real stores, its output, and its exit status."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs.cli import common
from learning_observer_kvs.cli.main import COMMANDS, main
from learning_observer_kvs.kvs import KVSRouter

ROOT = Path(__file__).parent.parent.parent

CREDS = """\
kvs:
  default: {type: sqlite, path: state.sqlite3}
  files: {type: filesystem, path: files, subdirs: true}
"""

EXTERNAL = 'External,m.r,STUDENT:ann'
ENTRIES: dict[str, Any] = {
    EXTERNAL: {'words': 12, 'ü': ['é', None]},
    'Internal,m.r,STUDENT:ann': {'at': 1},
    'odd\nkey \x1b[31m': 'red',
    'null': None,
    'half': 'an emoji \ud83d',
    'big': 2**70,
}

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a directory with a ``creds.yaml``; unexpected exceptions are raised."""
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(CREDS)

    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
async def filled(run: Run) -> Run:
    async with KVSRouter.from_settings('creds.yaml') as router:
        for store in (router(), router.files()):
            await store.multiset(ENTRIES)
    return run


stores = pytest.mark.parametrize('store', ['default', 'files'])


@stores
def test_keys_prints_one_key_a_line_whatever_characters_it_has(filled: Run, store: str) -> None:
    lines = filled('keys', '--store', store).stdout.splitlines()
    assert sorted(lines) == sorted([EXTERNAL, 'Internal,m.r,STUDENT:ann', 'big', 'half', 'null', r'odd\nkey \x1b[31m'])


@stores
def test_keys_prints_keys_exactly_as_json(filled: Run, store: str) -> None:
    lines = filled('keys', '-s', store, '--json').stdout.splitlines()
    assert {json.loads(line) for line in lines} == set(ENTRIES)


def test_keys_takes_a_prefix_and_a_limit(filled: Run) -> None:
    assert filled('keys', 'External').stdout == EXTERNAL + '\n'
    assert len(filled('keys', '--limit', '2').stdout.splitlines()) == 2
    assert filled('keys', 'nothing').stdout == ''
    assert filled('keys', '--limit', '0').exit_code == 2


@stores
@pytest.mark.parametrize('key', ENTRIES)
def test_get_prints_a_value_as_json(filled: Run, store: str, key: str) -> None:
    result = filled('get', key, '--store', store)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == ENTRIES[key]


def test_getting_a_missing_key_is_an_error(filled: Run) -> None:
    result = filled('get', 'nobody')
    assert (result.exit_code, result.stdout) == (1, '')
    assert result.stderr == f"There is no key 'nobody' in store 'default' ({Path.cwd()}/state.sqlite3).\n"
    assert filled('get', '').exit_code == 2


@stores
def test_load_restores_what_dump_wrote(filled: Run, store: str) -> None:
    result = filled('dump', 'backup.json', '--store', 'default')
    here = Path.cwd()
    said = f"6 entries of store 'default' ({here}/state.sqlite3) written to {here}/backup.json.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (0, '', said)
    assert json.loads(Path('backup.json').read_text()) == ENTRIES
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: other.sqlite3}}')
    said = f"6 entries of {here}/backup.json loaded into store 'default' ({here}/other.sqlite3); 0 were there already, "
    assert filled('load', 'backup.json').stderr == said + '0 with another value.\n'
    assert json.loads(filled('dump').stdout) == ENTRIES


def test_dump_prints_the_entries_of_a_prefix(filled: Run) -> None:
    assert json.loads(filled('dump', '--prefix', 'External').stdout) == {EXTERNAL: ENTRIES[EXTERNAL]}
    assert 'é' in filled('dump', '-', '--prefix', 'External').stdout


@pytest.mark.parametrize(
    ('text', 'message'), [('[1]', 'a dump is one object'), ('{"a": 1,}', 'is not JSON'), ('{"": 1}', 'entry 1')]
)
def test_load_rejects_an_invalid_file_and_stores_nothing(filled: Run, text: str, message: str) -> None:
    Path('bad.json').write_text(text)
    result = filled('load', 'bad.json')
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(filled('keys').stdout.splitlines()) == len(ENTRIES)


def test_missing_files_and_directories_are_errors_in_one_line(filled: Run) -> None:
    for words in (['load', 'none.json'], ['dump', 'none/backup.json'], ['load', '.']):
        result = filled(*words)
        assert result.exit_code == 1
        assert re.search(r'No such file|Is a directory', result.stderr)
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize('words', [['keys'], ['get', 'a'], ['dump'], ['load', 'x'], ['replay', 'x', '-r'], ['serve']])
def test_every_command_ends_with_the_report_of_wrong_settings(run: Run, reducers: str, words: list[str]) -> None:
    Path('creds.yaml').write_text('kvs: {default: {type: redsi}}')
    Path('x').write_text('{}')
    result = run(*words, *[f'{reducers}:count'] * (words[0] == 'replay'))
    assert (result.exit_code, result.stdout) == (1, '')
    assert "creds.yaml:1  kvs.default.type is 'redsi'" in result.stderr


@pytest.mark.parametrize('name', ['nobody', 'close', 'names', '_stores'])
def test_a_store_that_is_not_configured_is_an_error_that_names_those_that_are(run: Run, name: str) -> None:
    result = run('keys', '--store', name)
    assert result.exit_code == 1
    assert f'There is no store {name!r}; configured are: default, files' in result.stderr


def test_a_store_that_is_unavailable_is_an_error_with_its_reason(run: Run) -> None:
    Path('state.sqlite3').mkdir()
    result = run('keys')
    assert result.exit_code == 1
    assert 'state.sqlite3 cannot be used: it is a folder' in result.stderr


def test_an_option_or_the_environment_names_the_settings(filled: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path('creds.yaml').rename('mine.yaml')
    assert filled('keys').exit_code == 1
    assert filled('keys', '-c', 'mine.yaml', 'big').stdout == 'big\n'
    monkeypatch.setenv('LO_KVS_CONFIG', 'mine.yaml')
    assert filled('keys', 'big').stdout == 'big\n'
    assert filled('check').exit_code == 0


# check


def test_check_lists_the_stores_of_a_correct_configuration(run: Run) -> None:
    result = run('check', 'creds.yaml')
    assert result.exit_code == 0
    here = Path.cwd()
    stores = {
        'default': {'type': 'sqlite', 'location': f'{here}/state.sqlite3'},
        'files': {'type': 'filesystem', 'location': f'{here}/files'},
    }
    listed = [f"Store '{name}': {store['type']}, {store['location']}" for name, store in stores.items()]
    assert result.stdout.splitlines() == ['creds.yaml: no problems.', *listed]
    assert not Path('state.sqlite3').exists()
    found = json.loads(run('check', '--json').stdout)
    assert found == {'settings': [f'{here}/creds.yaml'], 'stores': stores, 'problems': []}


def test_check_reports_warnings_and_succeeds(run: Run) -> None:
    Path('creds.yaml').write_text('kvs: {default: {type: stub, expiry: 5}}')
    result = run('check')
    assert result.exit_code == 0
    assert 'can start, but' in result.stdout
    assert 'KVS.W001' in result.stdout


@pytest.mark.parametrize('file', sorted((ROOT / 'devdata/mistakes').iterdir()), ids=lambda path: path.stem)
def test_check_reports_the_mistakes_of_each_file_as_text_and_as_json(run: Run, file: Path) -> None:
    said = run('check', str(file))
    assert said.exit_code == 1
    assert f'{file}' in said.output
    result = run('check', str(file), '--json')
    assert result.exit_code == 1
    found = json.loads(result.stdout)['problems']
    for problem in found:
        assert set(problem) == {'id', 'level', 'location', 'subject', 'message', 'hint'}
        assert problem['id'] in said.output
    assert 'error' in {problem['level'] for problem in found}


def test_checking_a_missing_file_is_an_error_as_text_and_as_json(run: Run) -> None:
    assert 'none.yaml  the file does not exist' in run('check', 'none.yaml').stderr
    [problem] = json.loads(run('check', 'none.yaml', '--json').stdout)['problems']
    assert problem['id'] == 'KVS.E000'


# replay

REDUCER = """\
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer

@student_event_reducer(null_state={'events': 0})
async def count(event, state):
    if event['client']['event'] == 'fails':
        raise ValueError('no such event')
    state['events'] += 1
    return state, state

plain = len
"""


def event(kind: str) -> bytes:
    fields = {'client': {'event': kind, 'auth': {'safe_user_id': 'ann'}}}
    return json.dumps(fields).encode() + b'\t2026-01-01T00:00:00\n'


@pytest.fixture
def reducers(run: Run, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with a reducer, in the working directory."""
    name = 'reducers_of_the_command'
    Path(f'{name}.py').write_text(REDUCER)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_replay_feeds_files_and_directories_and_reports(run: Run, reducers: str) -> None:
    Path('logs').mkdir()
    Path('logs/a.study.log').write_bytes(event('keystroke') * 3)
    Path('logs/b.study.log.gz').write_bytes(gzip.compress(event('keystroke') * 2))
    result = run('replay', 'logs', '--reducer', f'{reducers}:count')
    assert result.exit_code == 0
    assert re.search(
        r'2 files, 5 events through 1 reducer into store .* events/s, 0 skipped, 0 failures, 0 invalid', result.stdout
    )
    assert json.loads(run('get', f'External,{reducers}.count,STUDENT:ann').stdout) == {'events': 5}


def test_replay_reports_failures_and_continues(run: Run, reducers: str) -> None:
    Path('a.study.log').write_bytes(event('keystroke') + event('fails') + event('keystroke'))
    Path('b.study.log').write_bytes(event('keystroke') + b'no event\n')
    result = run('replay', 'a.study.log', 'b.study.log', '-r', f'{reducers}:count', '--json')
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report['files'], report['events']) == (2, 3)
    assert [failure.split('  ')[0] for failure in report['failures']] == ['a.study.log:2']
    assert list(report['invalid_files']) == ['b.study.log']
    said = run('replay', 'a.study.log', '-r', f'{reducers}:count')
    assert 'ValueError: no such event' in said.stderr
    assert '1 failure,' in said.stdout


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('count', 'Write it as package.module:function'),
        ('no.such.module:count', "No module named 'no'"),
        ('{}:cuont', "has no 'cuont'. Did you mean 'count'?"),
        ('{}:plain', 'is not a reducer'),
    ],
)
def test_a_reducer_that_cannot_be_imported_is_an_error(run: Run, reducers: str, name: str, message: str) -> None:
    Path('a.study.log').write_bytes(event('keystroke'))
    result = run('replay', 'a.study.log', '--reducer', name.format(reducers))
    assert result.exit_code == 2
    assert message in ' '.join(result.stderr.split())


def test_a_path_without_a_study_log_is_an_error(run: Run, reducers: str) -> None:
    assert 'none: there is no such file' in run('replay', 'none', '-r', f'{reducers}:count').stderr
    assert 'No file of events was found' in run('replay', '.', '-r', f'{reducers}:count').stderr


# The command itself


def test_a_misspelled_command_gets_a_suggestion(run: Run) -> None:
    said = run('kyes')
    assert said.exit_code == 2
    assert "No such command 'kyes'. Did you mean 'keys'?" in said.stderr


@pytest.mark.parametrize('command', COMMANDS)
def test_the_help_of_each_command_has_an_example(run: Run, command: str) -> None:
    result = run(command, '--help')
    assert result.exit_code == 0
    assert f'lo-kvs {command} ' in result.stdout.partition('Example')[2]
    assert command in run('--help').stdout


def test_wrong_usage_exits_with_2(run: Run) -> None:
    assert run('chekc').exit_code == 2
    assert run('keys', '--colour').exit_code == 2
    assert run('get').exit_code == 2


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-W', 'error', '-m', 'learning_observer_kvs.cli', *arguments],
        env=os.environ | {'PYTHONPATH': str(ROOT)} | options.pop('env', {}),
        text=True,
        timeout=60,
        check=False,
        **({'capture_output': True} | options),
    )


def test_a_process_prints_in_any_encoding_and_exits_with_the_status(filled: Run) -> None:
    ended = process('get', EXTERNAL, env={'PYTHONIOENCODING': 'ascii'})
    assert (ended.returncode, ended.stderr) == (0, f"Read from store 'default' ({Path.cwd()}/state.sqlite3).\n")
    assert json.loads(ended.stdout) == ENTRIES[EXTERNAL]
    ended = process('get', 'nobody')
    assert ended.returncode == 1
    assert 'Traceback' not in ended.stderr


def test_a_closed_pipe_prints_no_error(filled: Run) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as closed:
        ended = process('dump', capture_output=False, stdout=closed, stderr=subprocess.PIPE)
    assert ended.stderr == ''
    assert ended.returncode == 1


def test_a_progress_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, 'SHOW_AFTER', 0)
    monkeypatch.setenv('TERM', 'xterm')
    for is_terminal in (False, True):
        with terminal() as (theirs, written), os.fdopen(os.dup(theirs), 'w') as stderr:
            monkeypatch.setattr(sys, 'stderr', stderr)
            if not is_terminal:
                monkeypatch.setattr(stderr, 'isatty', lambda: False)
            with common.progress('Replaying', 500, 'events') as advance:
                for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
                    timer.join()
                advance(500)
        shown = re.sub(r'\x1b\[[\d;]*m', '', b''.join(written).decode())
        assert ('500/500 events' in shown) == is_terminal


@contextmanager
def terminal() -> Iterator[tuple[int, list[bytes]]]:
    """A terminal's descriptor to write to, and what was written to it, complete when the context ends."""
    ours, theirs = pty.openpty()
    written: list[bytes] = []

    def read() -> None:
        with suppress(OSError):  # no process has the terminal open any more
            while data := os.read(ours, 1 << 16):
                written.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, written
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
