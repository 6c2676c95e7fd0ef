"""``lo-kvs``: how it ends: interrupted, with output that cannot be encoded or written, with an unexpected error."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from learning_observer_kvs.cli import common, get
from learning_observer_kvs.cli.main import main
from learning_observer_kvs.kvs import KVSRouter

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, '-W', 'error', '-m', 'learning_observer_kvs.cli']
SCRIPT = ROOT / 'learning_observer_kvs/cli/bin/lo-kvs'
CREDS = 'kvs: {default: {type: sqlite, path: s}, files: {type: filesystem, path: f}}\n'
ENTRIES = {'日本': 'é', 'plain': 1}


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text(CREDS)

    async def fill() -> None:
        async with KVSRouter.from_settings('creds.yaml') as router:
            await router().multiset(ENTRIES)

    asyncio.run(fill())


async def entries() -> Any:
    async with KVSRouter.from_settings('creds.yaml') as router:
        return await router().dump()


def environment(**more: str) -> dict[str, str]:
    return os.environ | {'PYTHONPATH': str(ROOT)} | more


def ended(*words: str, given: bytes = b'', **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *words], env=environment(**more), input=given, capture_output=True, timeout=60, check=False
    )


# Encodings

ENCODINGS = ['ascii', 'latin-1', 'utf-16']
WORDS = {
    'keys': ['keys'],
    'keys --json': ['keys', '--json'],
    'get': ['get', 'plain'],
    'a missing key': ['get', '日本x'],
    'a missing store': ['get', 'x', '-s', '日本'],
    'erase-student': ['erase-student', '日本', '--dry-run'],
    'remove-reducer': ['remove-reducer', '日本'],
    'copy': ['copy', 'default', 'files'],
    'check': ['check'],
    'a missing file': ['check', '日本.yaml'],
    'an unknown command': ['日本'],
    'an unknown option': ['keys', '--日本'],
    'help': ['keys', '--help'],
}


@pytest.mark.parametrize('words', WORDS.values(), ids=WORDS)
def test_what_the_terminal_cannot_encode_is_escaped(words: list[str]) -> None:
    status = ended(*words).returncode
    for encoding in ENCODINGS:
        done = ended(*words, PYTHONIOENCODING=encoding)
        assert b'Traceback' not in done.stderr
        assert b'UnicodeEncodeError' not in done.stderr
        assert 'Traceback' not in done.stderr.decode('utf-16', 'replace')
        assert done.returncode == status


def test_a_dump_is_utf8_and_is_loaded_whatever_the_terminal_is() -> None:
    dumped = ended('dump', '-', PYTHONIOENCODING='latin-1').stdout
    assert json.loads(dumped.decode()) == ENTRIES
    loaded = ended('load', '-', '-s', 'files', given=dumped, PYTHONIOENCODING='ascii')
    assert (loaded.returncode, loaded.stdout) == (0, b'')
    assert json.loads(ended('dump', '-s', 'files').stdout) == ENTRIES
    assert ended('set', 'k', '-', given='"é"'.encode(), PYTHONIOENCODING='latin-1').returncode == 0
    assert json.loads(ended('get', 'k').stdout) == 'é'


def test_prefixes_that_are_not_text_are_an_error_in_one_line() -> None:
    strange = os.fsdecode(b'caf\xe9')
    for words in (['keys', strange], ['get', strange], ['dump', '--prefix', strange], ['set', strange, '1']):
        done = ended(*words)
        assert done.returncode == 1
        assert b'is not valid Unicode' in done.stderr
        assert len(done.stderr.splitlines()) == 1


# Output that cannot be written, unexpected errors


@pytest.mark.parametrize('words', [['keys'], ['dump'], ['get', 'plain'], ['check']])
def test_a_disk_without_space_for_the_output_is_an_error_in_one_line(words: list[str]) -> None:
    with Path('/dev/full').open('wb') as full:
        done = subprocess.run(
            [*COMMAND, *words], env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(b'No space left on device')
    assert b'Traceback' not in done.stderr


def without(descriptor: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with one of the standard streams closed."""
    closing = f'import os, sys; os.close({descriptor}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])'
    return subprocess.run(
        [sys.executable, '-c', closing, *COMMAND[1:], *words],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize('words', [['set', 'a', '-'], ['load', '-']])
def test_a_closed_standard_input_is_an_error_where_it_is_read(words: list[str]) -> None:
    done = without(0, *words)
    assert done.returncode == 2
    assert done.stderr.endswith(b'Error: The standard input is closed.\n')
    assert without(0, 'keys').stdout == ended('keys').stdout


CLOSED = [['dump'], ['stats', '--json'], ['remove', 'plain'], ['--help'], []]


@pytest.mark.parametrize('words', CLOSED, ids=' '.join)
def test_no_command_begins_without_a_standard_output(words: list[str]) -> None:
    done = without(1, *words)
    assert done.returncode == 2
    assert done.stderr == b'The standard output is closed: an answer would be lost. Nothing was done.\n'
    assert asyncio.run(entries()) == ENTRIES


@pytest.mark.parametrize('words', [['keys'], ['get', 'x']])
def test_a_closed_standard_error_changes_neither_the_answer_nor_the_status(words: list[str]) -> None:
    done, whole = without(2, *words), ended(*words)
    assert (done.returncode, done.stdout) == (whole.returncode, whole.stdout)


def test_an_unexpected_error_is_a_line_and_a_variable_has_it_printed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ValueError('as it were')

    monkeypatch.setattr(get, 'with_stores', fail)
    result = CliRunner().invoke(main, ['get', 'plain'])
    assert result.exit_code == 1
    assert result.stderr.startswith('ValueError: as it were (test_cli_ends.py:')
    assert len(result.stderr.splitlines()) == 1
    monkeypatch.setenv('LO_KVS_TRACEBACK', '1')
    assert isinstance(CliRunner().invoke(main, ['get', 'plain']).exception, ValueError)


# Interrupted

REDUCER = ['--reducer', 'devdata.reducers:reconstruct']
INTERRUPTED = {
    'keys': (['keys'], '0 keys printed'),
    'get': (['get', 'k'], 'Nothing was changed'),
    'set': (['set', 'k', '1'], 'may or may not have been stored'),
    'remove': (['remove', 'k'], 'may or may not have been removed'),
    'dump': (['dump', 'b.json'], 'b.json is as it was'),
    'dump -': (['dump', '-'], 'is not whole'),
    'load': (['load', 'some.json'], '0 entries are stored. Run this again'),
    'copy': (['copy', 'default', 'files'], 'Run this again'),
    'erase-student': (['erase-student', 'bob'], 'Run this again'),
    'erase-student --dry-run': (['erase-student', 'bob', '--dry-run'], 'Nothing was removed'),
    'remove-reducer': (['remove-reducer', 'a.r'], 'Nothing was removed'),
    'remove-reducer --yes': (['remove-reducer', 'a.r', '--yes'], 'Run this again'),
    'find-student': (['find-student', 'bob'], 'may be more'),
    'export-student': (['export-student', 'bob'], 'Run this again'),
    'suppressed': (['suppressed'], 'Nothing was changed'),
    'suppressed --lift': (['suppressed', 'bob', '--lift'], 'may be lifted'),
    'expire': (['expire'], 'Run this again'),
    'expire --dry-run': (['expire', '--dry-run'], 'Nothing was removed'),
    'check --live': (['check', '--live'], 'Nothing was changed'),
    'replay of study logs': (['replay', 'some.study.log', *REDUCER], 'some of the events'),
    'replay of failed events': (['replay', 'failed-events-1.jsonl', *REDUCER], 'Run this again'),
}


@pytest.mark.parametrize(('words', 'said'), INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupted_command_says_what_is_done_and_how_to_go_on(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path('some.json').write_text('{"a": 1}')
    Path('some.study.log').touch()
    Path('failed-events-1.jsonl').touch()

    def interrupt(coroutine: Any) -> None:
        coroutine.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, 'run', interrupt)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 130
    assert result.stderr.startswith('Interrupted. ')
    assert said in result.stderr


SLOW = """
import sys, threading
from learning_observer_kvs.stores.sqlite.existing import ExistingDatabase

keys = ExistingDatabase.keys

def slow(*arguments):
    found = keys(*arguments)
    if not slow.called:
        slow.called = True
        print('busy', flush=True)
        threading.Event().wait(0.5)
    return found

slow.called = False
ExistingDatabase.keys = slow
from learning_observer_kvs.cli.main import main
main(prog_name='lo-kvs')
"""


def obey_interrupts() -> None:
    """Take back what a shell does to programs in the background: they ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_a_process_in_one_line_and_leaves_no_file() -> None:
    Path('b.json').write_text('what was there')
    with subprocess.Popen(
        [sys.executable, '-W', 'error', '-c', SLOW, 'dump', 'b.json'],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=obey_interrupts,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'busy\n'
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == b'Interrupted. b.json is as it was. Run this again.\n'
    assert Path('b.json').read_text() == 'what was there'
    assert {path.name for path in Path().iterdir()} == {'b.json', 'creds.yaml', 's'}


IMPORTED = """
import sys
print('busy', flush=True)
sys.stdin.readline()
sys.exit(7)
"""


@pytest.mark.parametrize(('handler', 'status'), [(signal.default_int_handler, 130), (signal.SIG_IGN, 7)])
@pytest.mark.parametrize('module', ['orjson', 'click'])
def test_ctrl_c_while_the_package_is_imported_is_a_line_unless_it_is_ignored(
    module: str, handler: Any, status: int
) -> None:
    Path('shadow').mkdir()
    Path('shadow', f'{module}.py').write_text(IMPORTED)
    with subprocess.Popen(
        [sys.executable, '-W', 'error', SCRIPT, 'keys'],
        env=environment(PYTHONPATH=f'shadow:{ROOT}'),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b'busy\n'
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(b'\n' if status == 7 else None, timeout=30)
    assert process.returncode == status
    assert said == (b'' if status == 7 else b'Interrupted.\n')


# The start


def test_the_installed_script_runs_a_command() -> None:
    done = subprocess.run(
        [sys.executable, '-W', 'error', SCRIPT, 'get', 'plain'], env=environment(), capture_output=True, check=True
    )
    assert done.stdout == b'1\n'


def test_commands_start_without_what_they_do_not_need() -> None:
    for words in (['--help'], ['keys'], ['get', 'plain'], ['load', '--help'], ['check']):
        program = (
            'import sys; from learning_observer_kvs.cli.main import main\ntry: main()\nfinally: print(*sys.modules)'
        )
        done = subprocess.run(
            [sys.executable, '-c', program, *words], env=environment(), capture_output=True, text=True, check=True
        )
        assert not {'aiohttp', 'jinja2', 'redis', 'rich'} & set(done.stdout.splitlines()[-1].split())


def seconds_of(*arguments: str) -> float:
    """The least time of the processor that a process takes, of a few; the first compiles what an installation has."""
    variables = environment(PYTHONPYCACHEPREFIX=os.path.abspath('compiled'), PYTHONDONTWRITEBYTECODE='')
    found = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def test_a_command_starts_in_less_than_0_4_seconds_more_than_python() -> None:
    python = seconds_of('-c', 'pass')
    assert seconds_of('-m', 'learning_observer_kvs.cli', 'keys') - python < 0.4


# Progress


def test_progress_is_shown_only_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(common._Bar, 'show', lambda bar: shown.append('shown'))
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    with common.progress('Working', None, 'keys') as advance:
        advance(1)
    assert shown == []
