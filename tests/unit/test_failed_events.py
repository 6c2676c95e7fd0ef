"""The file of failed events: whole lines, for the owner alone, nothing dropped silently."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import EventFileError, StoreUnavailable, WriteUnclear
from learning_observer_kvs.failed_events import FailedEvent
from learning_observer_kvs.stores.memory import InMemoryKVS

KEYS = ('Internal,m.count,STUDENT:bob', 'External,m.count,STUDENT:bob')
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(folder: Path, event: Any, error: BaseException | None = None) -> Path:
    error = error or StoreUnavailable('away')
    return failed_events.record(event, error, reducer='m.count', keys=KEYS, folder=folder, at=NOON)


def read(folder: Path) -> list[FailedEvent | EventFileError]:
    return [found for path in failed_events.find(folder) for found in failed_events.read(path)]


def test_what_is_recorded_is_read_again_in_order(tmp_path: Path) -> None:
    events = [{'client': {'n': n}} for n in range(3)]
    for event in events:
        path = record(tmp_path / 'failed', event)
    assert path.name == f'failed-events-2026-03-01-{os.getpid()}.jsonl'
    found = read(tmp_path / 'failed')
    assert [each.event for each in found if isinstance(each, FailedEvent)] == events
    assert len({each.id for each in found if isinstance(each, FailedEvent)}) == 3
    assert isinstance(found[1], FailedEvent)
    assert (found[1].location, found[1].time) == (f'{path}:2', NOON.isoformat())
    assert (found[1].reducer, found[1].keys, found[1].error) == ('m.count', KEYS, 'StoreUnavailable: away')


def test_folder_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = record(tmp_path / 'failed', {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.other_users
def test_the_owner_of_the_folder_can_read_what_root_has_recorded(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 5678)
    path = record(tmp_path / 'failed', {})
    for made in (path.parent, path):
        assert (made.stat().st_uid, made.stat().st_gid) == (1234, 5678)


def test_a_symbolic_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    path = record(tmp_path, {})
    path.unlink()
    path.symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(OSError, match='symbolic'):
        record(tmp_path, {})
    assert not (tmp_path / 'elsewhere').exists()


def test_a_fifo_in_place_of_the_file_is_not_written_to(tmp_path: Path) -> None:
    path = record(tmp_path, {})
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match='not a regular file'):
        record(tmp_path, {})
    assert failed_events.find(tmp_path) == []


def test_an_unclear_write_is_told_from_one_that_was_not_applied(tmp_path: Path) -> None:
    record(tmp_path, {}, WriteUnclear('no reply'))
    record(tmp_path, {}, StoreUnavailable('away'))
    assert [each.is_unclear for each in read(tmp_path) if isinstance(each, FailedEvent)] == [True, False]


@pytest.mark.parametrize('event', [{'text': '\ud83d'}, {'text': 'a\nb\u2028c'}, {'n': 2**80}, [], None, 'x' * 100_000])
def test_any_json_event_is_kept_as_it_is(tmp_path: Path, event: Any) -> None:
    path = record(tmp_path, event)
    [found] = read(tmp_path)
    assert isinstance(found, FailedEvent)
    assert found.event == event
    assert path.read_bytes().count(b'\n') == 1


@pytest.mark.parametrize('event', [{'t': {1, 2}}, {'x': float('nan')}, {'b': b'bytes'}])
def test_an_event_that_json_cannot_hold_is_kept_as_text_and_reported(tmp_path: Path, event: Any) -> None:
    path = record(tmp_path, event)
    assert json.loads(path.read_bytes())['not_json'] == repr(event)
    [found] = read(tmp_path)
    assert isinstance(found, EventFileError)
    assert str(found).startswith(f'{path}:1  the event of m.count is not JSON')


def test_a_line_that_was_cut_short_is_reported_and_costs_no_other_line(tmp_path: Path) -> None:
    path = record(tmp_path, {'n': 0})
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    [_, cut] = read(tmp_path)
    assert 'incomplete' in str(cut)
    record(tmp_path, {'n': 1})
    first, broken, last = read(tmp_path)
    assert isinstance(broken, EventFileError)
    assert f'{path}:2  the line is not JSON' in str(broken)
    assert [each.event for each in (first, last) if isinstance(each, FailedEvent)] == [{'n': 0}, {'n': 1}]


@pytest.mark.parametrize('line', [b'[]\n', b'{}\n', b'7\n', b'{"id": "1", "keys": ["a"], "event": {}}\n'])
def test_a_line_of_another_kind_is_reported(tmp_path: Path, line: bytes) -> None:
    path = record(tmp_path, {'n': 0})
    path.write_bytes(line + path.read_bytes())
    wrong, event = read(tmp_path)
    assert 'the line is not a failed event: it needs "id"' in str(wrong)
    assert isinstance(event, FailedEvent)


def test_a_disk_that_is_full_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(tmp_path, {'n': 0})
    whole, write = path.read_bytes(), os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 60:
            raise OSError(28, 'No space left on device')
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, 'write', full)
    with pytest.raises(OSError, match='No space'):
        record(tmp_path, {'n': 1})
    assert path.read_bytes() == whole


def test_threads_write_whole_lines_into_one_file(tmp_path: Path) -> None:
    def append_many(first: int) -> None:
        for n in range(first, first + 200):
            record(tmp_path, {'n': n, 'text': 'x' * n})

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(append_many, (0, 200)))
    assert len(failed_events.find(tmp_path)) == 1
    found = read(tmp_path)
    assert sorted(each.event['n'] for each in found if isinstance(each, FailedEvent)) == list(range(400))


def test_a_folder_that_does_not_exist_has_no_files(tmp_path: Path) -> None:
    assert failed_events.find(tmp_path / 'none') == []


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(EventFileError, match=r'none\.jsonl cannot be read: .*No such file'):
        list(failed_events.read(tmp_path / 'none.jsonl'))


def test_a_store_has_a_folder_for_failed_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    default, named = InMemoryKVS(), InMemoryKVS(failed_events='kept/here')
    monkeypatch.chdir('/')
    assert default.failed_events == str(tmp_path / 'failed-events')
    assert named.failed_events == str(tmp_path / 'kept/here')
    assert not list(tmp_path.iterdir())
