"""Failed events that several processes record at once."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import StoreUnavailable
from learning_observer_kvs.failed_events import FailedEvent


def append_many(folder: Path, first: int) -> None:
    for n in range(first, first + 200):
        event = {'n': n, 'text': 'x' * n}
        failed_events.record(event, StoreUnavailable('away'), reducer='m.count', keys=('i', 'e'), folder=folder)


def test_threads_and_processes_write_whole_lines_into_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context('spawn')
    processes = [context.Process(target=append_many, args=(tmp_path, first)) for first in (0, 200)]
    threads = [threading.Thread(target=append_many, args=(tmp_path, first)) for first in (400, 600)]
    workers: list[Any] = [*processes, *threads]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert len(failed_events.find(tmp_path)) == 3
    found = [event for path in failed_events.find(tmp_path) for event in failed_events.read(path)]
    assert sorted(each.event['n'] for each in found if isinstance(each, FailedEvent)) == list(range(800))
