"""``lo-kvs set``, ``remove``, ``erase-student`` and ``serve``."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

CREDS = 'config: {run_mode: deploy}\nkvs: {default: {type: sqlite, path: state.sqlite3}}\n'
COMMAND = [sys.executable, '-W', 'error', '-m', 'learning_observer_kvs.cli']

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the command in a directory with a ``creds.yaml``."""
    (tmp_path / 'creds.yaml').write_text(CREDS)

    def run(*arguments: str, given: str = '') -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=os.environ | {'PYTHONPATH': os.getcwd()},
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize('value', ['"hello"', 'null', '{"a": [1, 2.0, 12345678901234567890123]}', '"é"'])
def test_get_prints_what_set_stored(run: Run, value: str) -> None:
    assert run('set', 'a key', value).returncode == 0
    assert json.loads(run('get', 'a key').stdout) == json.loads(value)


def test_a_value_is_read_from_the_standard_input(run: Run) -> None:
    assert run('set', 'essay', '-', given='{"text":\n "one"}\n').returncode == 0
    assert run('set', 'copy', '-', given=run('get', 'essay').stdout).returncode == 0
    assert json.loads(run('get', 'copy').stdout) == {'text': 'one'}


@pytest.mark.parametrize('value', ['hello', '{', '[1] [2]'])
def test_a_value_that_is_not_json_is_rejected_with_a_hint_and_nothing_is_written(run: Run, value: str) -> None:
    ended = run('set', 'a', value)
    assert ended.returncode == 2
    assert 'double quotes' in ended.stderr
    assert run('keys').stdout == ''


def test_nan_is_rejected_and_nothing_is_written(run: Run) -> None:
    ended = run('set', 'a', '[1, NaN]')
    assert ended.returncode != 0
    assert 'Traceback' not in ended.stderr
    assert run('keys').stdout == ''


def test_removing_a_missing_key_is_an_error(run: Run, tmp_path: Path) -> None:
    run('set', 'a', '1')
    assert run('remove', 'a').returncode == 0
    ended = run('remove', 'a')
    assert (ended.returncode, ended.stderr) == (
        1,
        f"There is no key 'a' in store 'default' ({tmp_path}/state.sqlite3).\n",
    )


OF_BOB = [
    'External,a.b,STUDENT:bob',
    'Internal,a.b,EventField.doc_id:d,STUDENT:bob',
    'Internal,a.b,STUDENT:bob',
]
OF_OTHERS = ['Internal,a.b,EventField.doc_id:bob,STUDENT:eve', 'Internal,a.b,STUDENT:bobby', 'STUDENT:bob', 'bob']
WITHOUT_RULE = [name for key in OF_OTHERS if key != OF_OTHERS[1] for name in ('--leave', f'default:{key}')]


def test_erasing_a_student_removes_all_keys_of_that_student_and_no_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / 'some.json').write_text(json.dumps(dict.fromkeys(OF_BOB + OF_OTHERS, 1)))
    run('load', 'some.json')
    tried = run('erase-student', 'bob', '--dry-run')
    assert tried.returncode == 0
    listed = {line.removeprefix('default:').partition('  (')[::2] for line in tried.stdout.splitlines()}
    assert {key for key, rule in listed if rule == 'state)'} == set(OF_BOB)
    assert {key for key, rule in listed if rule == 'no rule is known)'} == {*OF_OTHERS} - {OF_OTHERS[1]}
    refused = run('erase-student', 'bob', '--yes')
    assert refused.returncode == 1
    assert 'Nothing was erased: no rule' in refused.stderr
    assert len(run('keys').stdout.splitlines()) == 7
    erased = run('erase-student', 'bob', '--yes', '--receipt', 'receipt.json', *WITHOUT_RULE)
    assert erased.returncode == 0, erased.stderr
    assert f'default ({tmp_path}/state.sqlite3): 3 states erased.' in erased.stderr
    assert sorted(run('keys').stdout.splitlines()) == OF_OTHERS
    receipt = json.loads((tmp_path / 'receipt.json').read_text())
    assert (receipt['complete'], len(receipt['left'])) == (True, 3)
    assert run('erase-student', 'ann', '--yes').returncode == 1


def test_a_student_whose_id_holds_a_comma_is_found(run: Run) -> None:
    run('set', r'Internal,a.b,STUDENT:doe\2c jane', '1')
    run('set', 'Internal,a.b,STUDENT:doe', '1')
    assert run('erase-student', 'doe, jane', '--yes').returncode == 0
    assert run('keys').stdout == 'Internal,a.b,STUDENT:doe\n'


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """``lo-kvs serve`` in a directory; its URL."""
    with subprocess.Popen(
        [*COMMAND, 'serve', '--port', '0', *options],
        cwd=folder,
        env=os.environ | {'PYTHONPATH': os.getcwd()},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            found = re.search(r'http://127\.0\.0\.1:\d+', process.stdout.readline())
            assert found
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
        assert process.returncode == 0


async def test_the_pages_are_served_to_this_machine_in_any_run_mode(tmp_path: Path, run: Run) -> None:
    run('set', 'Internal,a.b,STUDENT:bob', '1')
    with serving(tmp_path) as address:
        async with ClientSession() as session:
            first: dict[str, Any] = await (await session.get(address)).json()
            assert [store['name'] for store in first['stores']] == ['default']
            keys = await (await session.get(f'{address}/debug/kvs/default')).json()
            assert [entry['key'] for entry in keys['keys']] == ['Internal,a.b,STUDENT:bob']
            strange = {'Host': 'writing.example.org'}
            async with session.get(f'{address}/debug/kvs', headers=strange) as refused:
                assert refused.status == 403


async def test_stores_that_are_not_there_are_left_out_of_the_pages_and_not_made(tmp_path: Path, run: Run) -> None:
    (tmp_path / 'creds.yaml').write_text(
        'kvs: {default: {type: sqlite, path: s}, files: {type: filesystem, path: f}, cache: {type: stub}}'
    )
    ended = run('serve')
    assert ended.returncode == 3
    assert f'{tmp_path}/s' in ended.stderr
    assert f'{tmp_path}/f' in ended.stderr
    run('set', 'a', '1', '--store', 'files')
    with serving(tmp_path, '--json') as address:
        async with ClientSession() as session:
            first: dict[str, Any] = await (await session.get(address)).json()
            assert [store['name'] for store in first['stores']] == ['files']
    assert {path.name for path in tmp_path.iterdir()} == {'creds.yaml', 'f'}  # noqa: ASYNC240


def test_serving_a_wrong_configuration_prints_its_report_once(tmp_path: Path, run: Run) -> None:
    (tmp_path / 'creds.yaml').write_text('kvs: {default: {type: redsi}}\n')
    ended = run('serve')
    assert ended.returncode == 1
    assert ended.stderr.count("is 'redsi'") == 1
    assert 'Traceback' not in ended.stderr


def test_a_port_in_use_is_an_error_with_a_hint(run: Run) -> None:
    run('set', 'a', '1')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run('serve', '--port', port)
    said = f'Port {port} cannot be used: Address already in use. Give another one with --port.\n'
    assert (ended.returncode, ended.stderr.splitlines(True)[-1]) == (1, said)


@pytest.mark.parametrize('arguments', [('set', 'k', '1'), ('load', 'dump.json'), ('copy', 'files', 'default')])
def test_commands_do_not_write_to_a_store_in_memory(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    stores = 'kvs: {default: {type: stub}, files: {type: filesystem, path: files}}\n'
    (tmp_path / 'creds.yaml').write_text(stores)
    (tmp_path / 'dump.json').write_text('{"k": 1}')
    ended = run(*arguments)
    assert ended.returncode == 2
    assert "Store 'default' is of type stub" in ended.stderr
