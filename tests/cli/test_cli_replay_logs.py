"""``lo-kvs replay`` of study logs: which events reach which reducers, and what is left out and kept."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.replaying import MODULE, REDUCERS, Run, event, key, replay, replay_logs, run, state, study_log

__all__ = ['run']


@pytest.mark.parametrize(
    ('part', 'auth'),
    [
        (part, auth)
        for part in ('metadata', 'client')
        for auth in ({}, {'safe_user_id': None}, {'user_id': 'ann'}, 'ann', None)
        if (part, auth) != ('client', None)  # a guest
    ],
)
def test_a_study_log_whose_auth_names_no_student_is_reported_with_its_line(run: Run, part: str, auth: Any) -> None:
    wrong = {'client': {'number': 2}}
    wrong.setdefault(part, {})['auth'] = auth
    study_log(event(1), wrong)
    result = run('replay', 'a.study.log', '-r', f'{MODULE}:numbers')
    assert result.exit_code == 1
    assert f'a.study.log:2  the "{part}.auth" of the event has no "safe_user_id"' in result.stderr


def test_events_reach_the_reducers_that_a_server_gives_them_to_and_the_others_are_counted(run: Run) -> None:
    study_log(
        event(1),
        {'client': {'number': 2}},
        {'client': {'number': 3}, 'metadata': {'source': 'x'}},
        event(4, student=''),
        event(5, event='terminate'),
        event(6, doc_id='d'),
        event(7, object={'id': 'd'}),
    )
    report = replay_logs(run, 'a.study.log', reducers='')
    # Four reducers, of which one needs a document: 1 is skipped once, 2 to 5 by all.
    assert (report['events'], report['skipped'], report['failures']) == (7, 17, [])
    assert state(run, key()) == [1, 6, 7]
    assert state(run, key('documents', 'EventField.doc_id:d,STUDENT:ann')) == 2
    assert all('STUDENT:ann' in line for line in run('keys').stdout.splitlines())
    said = run('replay', 'a.study.log', '-r', MODULE)
    where = f"into store 'default' ({Path('state.sqlite3').resolve()})"
    assert f'1 file, 7 events through 4 reducers {where} in ' in said.stdout
    assert said.stdout.endswith(' 17 skipped, 0 failures, 0 invalid files\n')


@pytest.mark.parametrize('bad', ['{"client": {"numb', '[]', '7', '\x00\x00', '{"client": 3}', '{"metadata": {}}'])
def test_a_file_with_a_bad_line_is_left_out_whole_so_that_it_can_be_corrected_and_replayed(run: Run, bad: str) -> None:
    study_log(event(1), event(2), event(3))
    path = Path('a.study.log')
    good = path.read_text().splitlines(keepends=True)
    path.write_text(f'{good[0]}{bad}\t2026-01-01\n{good[1]}{bad}\t2026-01-01\n{good[2]}')
    study_log(event(10, student='bob'), name='b')
    report = replay_logs(run, 'a.study.log', 'b.study.log')
    assert (report['files'], report['events'], report['invalid_lines'], report['failures']) == (2, 1, 2, [])
    [(name, messages)] = report['invalid_files'].items()
    assert name == 'a.study.log'
    assert [message.partition('  ')[0] for message in messages] == ['a.study.log:2', 'a.study.log:4']
    assert (state(run, key()), state(run, key(fields='STUDENT:bob'))) == (None, [10])
    said = run('replay', 'a.study.log', '-r', f'{MODULE}:numbers')
    assert 'a.study.log: nothing of this file was replayed. When it is corrected, replay it alone.' in said.stderr
    assert '0 failures, 1 invalid file' in said.stdout
    path.write_text(''.join(good))
    assert replay_logs(run, 'a.study.log')['events'] == 3
    assert state(run, key()) == [1, 2, 3]


def test_of_a_file_of_another_kind_ten_lines_are_reported_and_the_others_counted(run: Run) -> None:
    Path('a.study.log').write_text('a letter\n' * 1000)
    said = run('replay', 'a.study.log', '-r', f'{MODULE}:numbers')
    assert said.stderr.count('the line is not JSON') == 10
    assert '… and 990 more such lines.' in said.stderr


def test_a_pipe_in_place_of_a_study_log_is_an_error(run: Run) -> None:
    os.mkfifo('a.study.log')
    result = run('replay', 'a.study.log', '-r', f'{MODULE}:numbers')
    assert result.exit_code == 1
    assert 'a.study.log is not a file. A file is read twice' in result.stderr


def test_what_a_student_wrote_does_not_reach_the_terminal_as_commands(run: Run) -> None:
    Path(f'{MODULE}.py').write_text(REDUCERS.replace("'no such number'", "event['client']['text']"))
    written = '\x1b[2J\x07\x9b1m\r\nBell'
    study_log(event('fails', text=written))
    said = run('replay', 'a.study.log', '-r', f'{MODULE}:numbers')
    assert r'ValueError: \x1b[2J\x07\x9b1m\r\nBell' in said.stderr
    [kept] = Path('failed-events').iterdir()
    again = run('replay', str(kept), '-r', f'{MODULE}:numbers')
    assert r'ValueError: \x1b[2J\x07\x9b1m\r\nBell' in again.stderr


def test_a_compressed_log_that_was_cut_is_left_out_whole(run: Run) -> None:
    study_log(*(event(n) for n in range(200)))
    whole = gzip.compress(Path('a.study.log').read_bytes())
    Path('a.study.log').unlink()
    Path('b.study.log.gz').write_bytes(whole[:-20])
    report = replay_logs(run, 'b.study.log.gz')
    assert 'cannot be read' in report['invalid_files']['b.study.log.gz'][0]
    assert (report['events'], state(run, key())) == (0, None)


def test_an_event_of_a_log_that_a_reducer_fails_on_is_kept_and_replayed_once(run: Run) -> None:
    study_log(event(1, time=1.0), event('fails', time=2.0, doc_id='d'), event(3, time=3.0))
    report = replay_logs(run, 'a.study.log', reducers='')
    assert [failure.partition('  ')[0] for failure in report['failures']] == ['a.study.log:2']
    [kept] = report['kept']
    assert Path(kept).parent == Path('failed-events').resolve()
    assert state(run, key()) == [1, 3]
    # Of another length: else what was compiled would be taken for this one, if it is of the same second.
    Path(f'{MODULE}.py').write_text(REDUCERS.replace("== 'fails'", "== 'no longer'"))
    del sys.modules[MODULE]
    assert [replay(run, kept, reducers='')['replayed'] for _ in range(2)] == [1, 0]
    assert state(run, key()) == [1, 3, 'fails']
    assert state(run, key('documents', 'EventField.doc_id:d,STUDENT:ann')) == 1


def test_an_event_of_a_log_that_cannot_be_kept_is_reported_and_ends_nothing(run: Run) -> None:
    Path('failed-events').write_text('a file where the folder should be')
    study_log(event(1), event('fails'), event(3))
    [failure] = replay_logs(run, 'a.study.log')['failures']
    assert f'It could not be kept in {Path("failed-events").resolve()}' in failure
    assert state(run, key()) == [1, 3]


def test_a_study_log_in_which_the_student_changes_leads_to_the_states_of_both(run: Run) -> None:
    study_log(event(1), event(2, 'bob'), event(3))
    assert run('replay', 'a.study.log', '-r', f'{MODULE}:numbers').exit_code == 0
    assert (state(run, key()), state(run, key(fields='STUDENT:bob'))) == ([1, 3], [2])


def test_a_study_log_or_a_reducer_that_is_given_twice_is_fed_once(run: Run) -> None:
    study_log(event(1))
    name = f'{MODULE}:numbers'
    assert (
        run('replay', 'a.study.log', str(Path('a.study.log').resolve()), '.', '-r', name, '-r', MODULE).exit_code == 0
    )
    assert state(run, key()) == [1]


def test_a_module_without_a_reducer_is_an_error(run: Run) -> None:
    study_log(event(1))
    result = run('replay', 'a.study.log', '-r', 'json')
    assert result.exit_code == 2
    assert 'json defines no reducer' in result.stderr
