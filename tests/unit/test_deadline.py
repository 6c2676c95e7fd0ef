"""Until when calls wait: their store's timeout, or the shorter one of the block that they are in."""

from __future__ import annotations

from functools import partial
from time import monotonic

import pytest

from learning_observer_kvs.reducers.event_deadline import deadline_of, note_deadline
from learning_observer_kvs.stores.deadline import (
    ONE_TRY,
    deadline_after,
    limit_of,
    limited_to,
    longest_try,
    pause_after,
)


def test_a_deadline_is_the_timeout_from_the_start_of_the_call() -> None:
    assert deadline_after(15, began=100) == 115
    assert deadline_after(15) == pytest.approx(monotonic() + 15, abs=1)
    assert deadline_after(0) == ONE_TRY


def test_a_block_shortens_the_wait_and_never_lengthens_it() -> None:
    with limited_to(3):
        assert deadline_after(15, began=100) == 103
        assert deadline_after(1, began=100) == 101
        with limited_to(5):
            assert limit_of(15) == 3
        with limited_to(0):
            assert deadline_after(15) == ONE_TRY
    assert limit_of(15) == 15


def test_a_try_lasts_as_long_as_an_answer_may_take_or_until_the_deadline_and_a_second_at_least() -> None:
    assert [longest_try(5, left) for left in (60, 3, 0.1, -4, ONE_TRY)] == [5, 3, 1, 1, 5]


def test_pauses_grow_with_the_outage_to_a_second() -> None:
    assert [pause_after(seconds) for seconds in (0, 0.3, 7)] == [0.05, 0.3, 1]


def test_reducers_of_an_event_share_the_deadline_of_the_first_that_waited_and_that_one_begins_another() -> None:
    event = {'n': 1}
    one, two, three = (lambda event, number=number: number for number in range(3))
    first = deadline_of(partial(one, event), 15)
    assert deadline_of(partial(two, event), 60) > first + 40  # the first has not waited
    note_deadline(partial(one, event), first)
    assert deadline_of(partial(two, event), 60) == first
    note_deadline(partial(two, event), first)
    assert deadline_of(partial(three, event), 60) == first
    assert deadline_of(partial(two, dict(event)), 60) > first + 40
    second = deadline_of(partial(one, event), 60)
    assert second > first + 40
    note_deadline(partial(one, event), second)
    assert deadline_of(partial(two, event), 200) == second
    assert deadline_of(partial(one, event), 120) > second + 40
