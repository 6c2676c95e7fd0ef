"""``lo-kvs replay`` of failed events: which events go to which reducers, and what is said of the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.replay import error_file
from tests.support.replaying import MODULE, REDUCERS, Run, event, key, replay, run, state

__all__ = ['run']


def record(
    event: Any, *, reducer: str = 'numbers', fields: str = 'STUDENT:ann', error: BaseException | None = None
) -> Path:
    keys = [key(reducer, fields)]
    error = error or StoreUnavailable('away')
    return failed_events.record(event, error, reducer=f'{MODULE}.{reducer}', keys=keys, folder='failed')


def write_error_file(name: str, event: Any, *keys: str, error: BaseException | None = None, trace: str = '') -> Path:
    """What the server writes when the first of these reducers has failed."""
    if keys:
        error = error or StoreUnavailable('away')
        error_file.annotate(error, {keys[0]: error}, keys[1:])
        trace += '\n'.join(error.__notes__) + '\n'
    path = Path('logs') / f'critical-error-{name}.tb'
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'{json.dumps(event, sort_keys=True, indent=2)}\nTraceback:\nTraceback (most …\n{trace}')
    return path


def test_each_event_is_replayed_once_however_often_and_in_how_many_files_it_is_given(run: Run) -> None:
    for n in range(3):
        path = record(event(n, time=float(n)))
        write_error_file(str(n), event(n, time=float(n)), key())
    copy = Path('copy') / path.name
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    report = replay(run, str(path), str(path), 'failed', 'copy', 'logs')
    assert (report['files'], report['replayed'], report['already_replayed']) == (5, 3, 6)
    again = replay(run, 'failed')
    assert (again['replayed'], again['already_replayed']) == (0, 3)
    assert state(run, key()) == [0, 1, 2]
    said = run('replay', 'failed', '-r', f'{MODULE}:numbers')
    where = f"store 'default' ({Path('state.sqlite3').resolve()})"
    begin, _, end = said.stdout.partition(' s: ')
    assert begin.startswith(f'1 file of failed events into {where} in ')
    assert end == '0 replayed, 3 before, 0 unclear, 0 unmarked, 0 skipped, 0 failures\n'


def test_events_go_to_the_reducers_that_failed_and_to_no_other(run: Run) -> None:
    write_error_file('a', event(1, time=1.0, doc_id='d'), key('documents', 'EventField.doc_id:d,STUDENT:ann'), key())
    write_error_file('b', event(2, time=2.0), key())
    report = replay(run, 'logs', reducers='')
    assert (report['replayed'], report['failures']) == (3, [])
    assert state(run, key()) == [1, 2]
    assert state(run, key('documents', 'EventField.doc_id:d,STUDENT:ann')) == 1
    assert state(run, key('renamed')) is None


def test_of_several_reducers_of_one_function_the_one_with_the_scope_of_the_key_gets_the_event(run: Run) -> None:
    fields = 'EventField.doc_id:d,STUDENT:ann'
    write_error_file('a', event(1, time=1.0, doc_id='d'), key('documents', fields))
    write_error_file('b', event(2, time=2.0, doc_id='d'), key('documents'))
    assert replay(run, 'logs', reducers='')['replayed'] == 2
    assert (state(run, key('documents', fields)), state(run, key('documents'))) == (1, 1)


def test_events_of_reducers_that_are_not_given_are_left_and_counted(run: Run) -> None:
    record(event(1))
    record(event(1), reducer='renamed')
    assert replay(run, 'failed')['other_reducers'] == {f'{MODULE}.renamed': 1}
    said = run('replay', 'failed', '-r', f'{MODULE}:numbers')
    assert f'1 event of {MODULE}.renamed left; name it with --reducer' in said.stderr
    assert said.exit_code == 0
    assert replay(run, 'failed', reducers=':other')['replayed'] == 1
    assert state(run, key('renamed')) == 1


def test_equal_events_without_a_time_are_told_apart(run: Run) -> None:
    record(event(1))
    record(event(1))
    assert [replay(run, 'failed')['replayed'] for _ in range(2)] == [2, 0]
    assert state(run, key()) == [1, 1]


def test_the_oldest_event_is_replayed_first_in_whatever_file_it_is(run: Run) -> None:
    record(event(3, time=3.0))
    record(event(1, time=1.0))
    write_error_file('z', event(0, time=0.5), key())
    write_error_file('a', event(2, time=2.0), key())
    replay(run, 'failed', 'logs')
    assert state(run, key()) == [0, 1, 2, 3]


def test_an_event_that_fails_again_stays_for_the_next_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'dont_write_bytecode', True)  # which a file of the same size and second would be taken for
    record(event('fails', time=1.0))
    record(event(2, time=2.0))
    report = replay(run, 'failed')
    [failure] = report['failures']
    assert failure.endswith(f'.jsonl:1  {key()!r}: ValueError: no such number')
    assert report['replayed'] == 1
    Path(f'{MODULE}.py').write_text(REDUCERS.replace("== 'fails'", "== 'never'"))
    del sys.modules[MODULE]
    assert replay(run, 'failed')['replayed'] == 1
    assert state(run, key()) == [2, 'fails']


def test_an_event_that_may_have_been_applied_is_replayed_on_request_only(run: Run) -> None:
    line = record(event(1, time=1.0), error=WriteUnclear('no reply'))
    named = write_error_file('a', event(2, time=2.0), key(), key('renamed'), error=WriteUnclear('no reply'))
    report = replay(run, 'failed', 'logs')
    assert report['unclear'] == [f'{line}:1  {MODULE}.numbers', f'{named}  {MODULE}.numbers']
    assert report['replayed'] == 0
    assert replay(run, 'logs', reducers=':other')['replayed'] == 1, 'those after it were not reached'
    assert replay(run, 'failed', 'logs', '--unclear')['replayed'] == 2
    assert state(run, key()) == [1, 2]


def test_a_file_that_does_not_say_which_reducers_failed_is_replayed_on_request_only(run: Run) -> None:
    path = write_error_file('a', event(1, time=1.0), trace='SomeError: text\n')
    report = replay(run, 'logs', reducers='')
    assert report == {
        'files': 1,
        'replayed': 0,
        'already_replayed': 0,
        'suppressed': 0,
        'unclear': [],
        'unmarked': [str(path)],
        'other_reducers': {},
        'skipped': 0,
        'failures': [],
    }
    for _ in range(2):
        assert replay(run, 'logs', '--unmarked', reducers='')['failures'] == []
    assert state(run, key()) == [1]


def test_text_of_a_student_in_a_traceback_does_not_lead_to_another_students_state(run: Run) -> None:
    error = StoreUnavailable('x')
    error_file.annotate(error, {key(fields='STUDENT:bob'): error})
    write_error_file('a', event(1, time=1.0), trace=f'ValueError: no\n{error.__notes__[0]}\n')
    [failure] = replay(run, 'logs')['failures']
    assert 'is not a key that' in failure
    assert state(run, key(fields='STUDENT:bob')) is None


def test_the_note_of_an_error_that_several_events_got_is_the_last_events(run: Run) -> None:
    error = StoreUnavailable('away')
    for student in ('bob', 'ann'):
        error_file.annotate(error, {key(fields=f'STUDENT:{student}'): error})
    assert len(error.__notes__) == 1
    write_error_file('a', event(1, time=1.0), trace=f'  | {error.__notes__[0]}\n')
    assert replay(run, 'logs')['replayed'] == 1


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'the text before "Traceback:" is not JSON'),
        ('{"client": {"number"', 'the text before "Traceback:" is not JSON'),
        ('[]\nTraceback:\n', 'it does not begin with an event: an object with an object "client"'),
        ('{"client": {}, "metadata": {"auth": {}}}\nTraceback:\n', 'has no "safe_user_id", which names the student'),
    ],
)
def test_an_error_file_that_is_none_is_reported_with_its_name(run: Run, text: str, message: str) -> None:
    path = write_error_file('a', event(1))
    path.write_text(text)
    [failure] = replay(run, 'logs')['failures']
    assert failure.startswith(f'{path}  ')
    assert message in failure


def test_lines_that_cannot_be_replayed_are_reported_and_the_others_replayed(run: Run) -> None:
    path = record({1, 2})
    record(event(1))
    with path.open('ab') as file:
        file.write(b'{"id"')
    report = replay(run, 'failed')
    assert [failure.partition('  ')[0] for failure in report['failures']] == [f'{path}:1', f'{path}:3']
    assert report['replayed'] == 1


def test_directories_with_study_logs_too_need_a_choice(run: Run) -> None:
    record(event(1))
    Path('failed/a.study.log').write_text(json.dumps(event(2)) + '\ttime\n')
    result = run('replay', 'failed', '-r', f'{MODULE}:numbers')
    assert result.exit_code == 2
    assert 'There are 1 study log and 1 file of failed events' in ' '.join(result.stderr.split())
    assert replay(run, 'failed', '--only', 'failed-events')['replayed'] == 1
    assert run('replay', 'failed', '--only', 'study-logs', '-r', f'{MODULE}:numbers').exit_code == 0
    assert state(run, key()) == [1, 2]


def test_a_store_in_memory_is_refused(run: Run) -> None:
    record(event(1))
    Path('creds.yaml').write_text('kvs: {default: {type: stub}}\n')
    result = run('replay', 'failed', '-r', f'{MODULE}:numbers')
    assert result.exit_code == 2
    assert 'gone when this command ends' in result.stderr


def test_what_stands_in_the_place_of_the_list_of_replayed_events_is_not_overwritten(run: Run) -> None:
    record(event(1))
    run('set', key().replace('Internal', 'Replayed'), '"text"')
    [failure] = replay(run, 'failed')['failures']
    assert 'is not a list of replayed events' in failure
    assert state(run, key()) is None


def test_a_key_in_an_error_file_that_is_not_one_of_a_reducer_is_named_and_costs_no_other(run: Run) -> None:
    path = write_error_file('a', event(1, time=1.0), 'nonsense', key())
    for more in ((), ('--unmarked',)):
        report = replay(run, 'logs', *more)
        assert report['failures'] == [f"{path}  'nonsense' is not the key of a reducer. Correct or remove it."]
        assert report['unmarked'] == []
    assert state(run, key()) == [1]


@pytest.mark.parametrize('time', [10**400, -(10**400), True, None, 'noon'], ids=['huge', 'far', 'true', 'null', 'text'])
def test_a_time_that_is_none_costs_no_event(run: Run, time: Any) -> None:
    record(event(1, server={}) | {'server': {'time': time}})
    record(event(2, time=2.0))
    report = replay(run, 'failed')
    assert (report['replayed'], report['failures']) == (2, [])


@pytest.mark.parametrize('time', ['0001-01-01T00:00:00', '9999-12-31T23:59:59', 'noon', ''])
def test_an_odd_date_of_a_line_costs_no_event(run: Run, time: str) -> None:
    path = record(event(1))
    line = json.loads(path.read_bytes())
    path.write_text(json.dumps(line | {'time': time}) + '\n')
    assert replay(run, 'failed')['replayed'] == 1


def test_an_unmarked_event_reaches_the_reducers_that_a_server_gives_it_to_and_the_others_are_counted(run: Run) -> None:
    write_error_file('a', event(1, time=1.0))  # without a doc_id
    write_error_file('b', {'client': {'number': 2}, 'server': {'time': 2.0}})  # without a student
    write_error_file('c', event(3, time=3.0, event='terminate'))
    report = replay(run, 'logs', '--unmarked', reducers='')
    assert (report['replayed'], report['skipped'], report['failures']) == (3, 9, [])
    assert (state(run, key()), state(run, key('renamed'))) == ([1], 1)
