"""Reducers to replay events through, and ``lo-kvs replay``, in a directory of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from learning_observer_kvs.cli.main import main

MODULE = 'reducers_of_failed_events'

REDUCERS = """\
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.helpers import kvs_pipeline, student_event_reducer

@student_event_reducer(null_state=[])
async def numbers(event, state):
    number = event['client']['number']
    if number == 'fails':
        raise ValueError('no such number')
    return [*state, number], False

@kvs_pipeline(null_state=0, scope=Scope([KeyField.STUDENT, EventField('doc_id')]))
async def documents(event, state):
    return state + 1, False

undecorated = documents.__wrapped__
documents_of_student = student_event_reducer(null_state=0)(undecorated)

@student_event_reducer(null_state=0, qualname_override='renamed')
async def other(event, state):
    return state + 1, False
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a directory with settings and a module of reducers; unexpected exceptions are raised."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    Path(f'{MODULE}.py').write_text(REDUCERS)
    Path('creds.yaml').write_text('kvs: {default: {type: sqlite, path: state.sqlite3}}\n')

    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)


def event(number: Any = 1, student: str = 'ann', time: float | None = None, **client: Any) -> dict[str, Any]:
    server = {} if time is None else {'server': {'time': time}}
    return {'client': {'number': number, **client}, 'metadata': {'auth': {'safe_user_id': student}}, **server}


def key(reducer: str = 'numbers', fields: str = 'STUDENT:ann') -> str:
    return f'Internal,{MODULE}.{reducer},{fields}'


def state(run: Run, wanted: str) -> Any:
    result = run('get', wanted)
    return json.loads(result.stdout) if result.exit_code == 0 else None


def replay(run: Run, *arguments: str, reducers: str = ':numbers') -> dict[str, Any]:
    result = run('replay', *arguments, '--json', '-r', f'{MODULE}{reducers}')
    report: dict[str, Any] = json.loads(result.stdout)
    assert (result.exit_code == 0) == (not report['failures'] + report['unclear'] + report['unmarked'])
    assert (report['store'], report['location']) == ('default', str(Path('state.sqlite3').resolve()))
    del report['seconds'], report['store'], report['location']
    return report


def study_log(*events: Any, name: str = 'a') -> None:
    Path(f'{name}.study.log').write_text(''.join(json.dumps(each) + '\t2026-01-01\n' for each in events))


def replay_logs(run: Run, *arguments: str, reducers: str = ':numbers') -> dict[str, Any]:
    result = run('replay', *arguments, '--json', '-r', f'{MODULE}{reducers}')
    report: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == bool(report['failures'] or report['invalid_files'])
    return report
