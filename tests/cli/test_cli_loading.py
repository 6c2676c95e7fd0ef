"""``lo-kvs load`` and ``dump``: what is there is not replaced unless that is asked for; ``keys --match``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs.cli.main import main

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a directory with a ``creds.yaml``."""
    monkeypatch.chdir(tmp_path)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: s}, files: {type: filesystem, path: f}}')
    return lambda *words, given=None: CliRunner().invoke(main, words, input=given)


def report(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize('store', ['default', 'files'])
def test_load_leaves_other_values_and_names_them_unless_they_are_to_be_replaced(run: Run, store: str) -> None:
    Path('a.json').write_text('{"same": 1, "other": 2, "new": 3}')
    for key, value in {'same': '1', 'other': '"mine"', 'apart': '4'}.items():
        run('set', key, value, '-s', store)
    said = run('load', 'a.json', '-s', store)
    assert said.exit_code == 1
    assert "'other' has another value" in said.stderr
    assert '--replace replaces them' in said.stderr
    assert json.loads(run('dump', '-s', store).stdout) == {'same': 1, 'other': 'mine', 'new': 3, 'apart': 4}
    again = run('load', 'a.json', '-s', store, '--json')
    assert again.exit_code == 1
    counts = {name: report(again)[name] for name in ('written', 'present', 'differing')}
    assert counts == {'written': 0, 'present': 2, 'differing': 1}
    replaced = run('load', 'a.json', '-s', store, '--replace', '--json')
    assert (replaced.exit_code, report(replaced)['written']) == (0, 1)
    assert json.loads(run('dump', '-s', store).stdout) == {'same': 1, 'other': 2, 'new': 3, 'apart': 4}


def test_load_reads_the_standard_input_that_dump_wrote(run: Run) -> None:
    for key in ('a', 'b'):
        run('set', key, '1')
    dumped = run('dump', '-').stdout
    assert run('load', '-', '-s', 'files', given=dumped).exit_code == 0
    assert run('dump', '-s', 'files').stdout == dumped
    bad = run('load', '-', '-s', 'files', given='[1]')
    assert bad.exit_code == 1
    assert bad.stderr.startswith('the standard input holds a JSON list')
    assert {path.name for path in Path().iterdir()} == {'creds.yaml', 's', 'f'}


def test_a_dump_without_entries_replaces_no_file_unless_that_is_asked_for(run: Run) -> None:
    Path('backup.json').write_text('what was there')
    run('set', 'a', '1')
    kept = run('dump', 'backup.json', '--prefix', 'b')
    assert kept.exit_code == 1
    assert kept.stderr == 'There is no entry to write; backup.json was left as it is.\n'
    assert Path('backup.json').read_text() == 'what was there'
    assert run('dump', 'new.json', '--prefix', 'b').exit_code == 0
    assert run('dump', 'backup.json', '--prefix', 'b', '--allow-empty').exit_code == 0
    assert json.loads(Path('backup.json').read_text()) == {}
    assert {path.name for path in Path().iterdir()} == {'creds.yaml', 's', 'backup.json', 'new.json'}


def test_a_dump_reports_as_json_beside_what_it_prints(run: Run) -> None:
    run('set', 'a', '1')
    printed = run('dump', '--json')
    assert json.loads(printed.stdout) == {'a': 1}
    assert json.loads(printed.stderr)['entries'] == 1
    written = report(run('dump', 'a.json', '--json'))
    assert (written['file'], written['entries']) == (str(Path('a.json').absolute()), 1)


def test_keys_that_match_are_printed_up_to_the_limit(run: Run) -> None:
    for key in ('a,STUDENT:ann', 'b,STUDENT:ann', 'a,STUDENT:bob', 'c[1]'):
        run('set', key, '1')
    assert run('keys', '--match', '*,STUDENT:ann').stdout.split() == ['a,STUDENT:ann', 'b,STUDENT:ann']
    assert run('keys', 'a', '--match', '*ann').stdout == 'a,STUDENT:ann\n'
    assert run('keys', '--match', '*,*', '--limit', '2').stdout.split() == ['a,STUDENT:ann', 'a,STUDENT:bob']
    assert run('keys', '--match', 'c[[]1]').stdout == 'c[1]\n'
    assert run('keys', '--match', 'STUDENT').stdout == ''


def test_copy_replaces_values_that_differ_if_that_is_asked_for(run: Run) -> None:
    run('set', 'a', '1')
    run('set', 'a', '2', '-s', 'files')
    left = run('copy', 'files', 'default')
    assert (left.exit_code, run('get', 'a').stdout) == (1, '1\n')
    assert run('copy', 'files', 'default', '--replace').exit_code == 0
    assert run('get', 'a').stdout == '2\n'


def test_a_dump_goes_through_a_fifo_from_one_store_into_another(run: Run) -> None:
    os.mkfifo('fifo')
    run('set', 'a', '1')
    with ThreadPoolExecutor() as threads:
        text = threads.submit(Path('fifo').read_bytes)
        dumped = run('dump', 'fifo', '--json')
        assert json.loads(dumped.stdout)['entries'] == 1
        writing = threads.submit(Path('fifo').write_bytes, text.result(10))
        loaded = report(run('load', 'fifo', '--json', '-s', 'files'))
        writing.result(10)
    assert (loaded['file'], loaded['written']) == (os.path.abspath('fifo'), 1)
    assert Path('fifo').is_fifo()
    assert json.loads(run('get', 'a', '-s', 'files').stdout) == 1
