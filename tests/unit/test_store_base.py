"""What the base of all stores does where a backend brings no more than the four methods."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs.errors import Conflict
from learning_observer_kvs.reducers import attach, worker_of
from learning_observer_kvs.stores import backend, base
from learning_observer_kvs.stores.key_locks import KeyLocks
from learning_observer_kvs.stores.overlay import PlainOverlay
from learning_observer_kvs.stores.types import MISSING, Description
from tests.support.watched import Watched, count, process, until


async def test_a_removal_is_tried_again_while_others_write_and_tells_whether_the_key_was_there(
    watched: Watched,
) -> None:
    watched.texts['k'] = b'1'
    numbers = iter(range(2, 5))

    def another_writes() -> None:
        number = next(numbers, None)
        if number is not None:
            watched.texts['k'] = b'%d' % number

    watched.before = another_writes
    assert await watched.remove('k')
    assert watched.texts == {}
    assert await watched.remove('k') is False


@pytest.mark.parametrize('write', ['remove', 'commit', 'update'])
async def test_a_write_that_others_always_precede_gives_up_with_conflict(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    pauses: list[int] = []

    async def note(attempt: int) -> None:
        pauses.append(attempt)

    for module in (base, backend):
        monkeypatch.setattr(module, 'MAX_TRIES', 3)
        monkeypatch.setattr(module, 'pause', note)
    watched.texts['k'] = b'1'
    spaces = iter(range(1, 100))
    # The value stays, so that the condition holds; the text changes, so that each commit comes too late.
    watched.before = lambda: watched.texts.__setitem__('k', b'1' + b' ' * next(spaces))
    writes: dict[str, Any] = {
        'remove': lambda: watched.remove('k'),
        'commit': lambda: watched.commit({'k': 2}, {'k': 1}),
        'update': lambda: watched.update('k', lambda value: MISSING),
    }
    with pytest.raises(Conflict, match=r"'k' in store 'watched' \(a test\).*after 3 tries"):
        await writes[write]()
    assert watched.texts['k'].strip() == b'1'
    assert pauses == [0, 1, 2]
    assert watched.busy_keys() == 0


async def test_a_condition_that_a_key_is_missing_needs_no_valid_json(watched: Watched) -> None:
    watched.texts['k'] = b'{'
    assert not await watched.commit({'l': 1}, {'k': MISSING})
    assert watched.texts == {'k': b'{'}


async def test_a_dump_leaves_out_what_is_removed_after_its_page_was_read(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.texts |= {'a': b'1', 'b': b'2'}
    scan = watched._scan

    async def remove_one(*arguments: Any) -> Any:
        page = await scan(*arguments)
        del watched.texts['a']
        return page

    monkeypatch.setattr(watched, '_scan', remove_one)
    assert await watched.dump() == {'b': 2}


async def test_a_store_without_reducers_has_nothing_pending(watched: Watched) -> None:
    assert watched.overlay().pending(['k']) == {}


async def test_the_size_of_a_value_is_known_where_a_backend_knows_no_more(watched: Watched) -> None:
    watched.texts['k'] = b'[1, 2]'
    assert await watched.describe('k') == Description(6)
    assert await watched.describe('l') is None


async def test_keys_that_a_scan_gives_twice_are_given_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {None: (['a', 'b', 'a'], '1'), '1': (['c', 'b'], None)}

    async def scan(prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        return pages[cursor]

    monkeypatch.setattr(watched, '_scan', scan)
    assert await watched.keys() == ['a', 'b', 'c']


async def test_the_task_of_a_commit_is_held_until_it_ends(watched: Watched) -> None:
    watched.gate.clear()
    event = process(watched, count)
    await until(lambda: len(watched.commits) == 1)
    assert len(backend._COMMITS) == 1
    watched.gate.set()
    await event
    assert not backend._COMMITS


async def test_a_store_that_must_wait_has_no_calls_without_waiting(watched: Watched) -> None:
    with pytest.raises(NotImplementedError, match='Watched cannot read'):
        watched.read_bytes_now('k')
    with pytest.raises(NotImplementedError, match='Watched cannot write'):
        watched.commit_bytes_now({}, {})


async def test_the_first_overlay_that_is_attached_stays(watched: Watched) -> None:
    attach(watched)
    worker = worker_of(watched)
    watched.attach_overlay(lambda: PlainOverlay(KeyLocks()))
    assert worker_of(watched) is worker


async def test_reducers_are_not_run_under_the_overlay_of_another_layer(watched: Watched) -> None:
    watched.attach_overlay(lambda: PlainOverlay(watched.key_locks.here()))
    with pytest.raises(TypeError, match='PlainOverlay'):
        worker_of(watched)
