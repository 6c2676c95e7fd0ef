"""The cache of states is bounded in bytes, and knows the last committed text of the keys it still has."""

from __future__ import annotations

import pytest

from learning_observer_kvs.reducers.state_cache import StateCache


def size_of(cache: StateCache, keys: str) -> int:
    """The bytes of what is cached of some keys, each of one letter."""
    return sum(len(key) + len(text) for key in keys if (text := cache.get(key)) is not None)


def test_what_was_put_last_is_what_is_got() -> None:
    cache = StateCache(100)
    cache.put('a', b'1')
    cache.put('a', b'22')
    assert cache.get('a') == b'22'
    assert cache.get('b') is None
    assert len(cache) == 1


def test_never_more_bytes_than_the_limit_are_kept() -> None:
    cache = StateCache(100)
    for number in range(1000):
        cache.put(chr(ord('a') + number % 26), b'x' * (number * 7 % 40))
        assert size_of(cache, 'abcdefghijklmnopqrstuvwxyz') <= 100
    assert len(cache) > 1


def test_up_to_the_limit_nothing_is_dropped() -> None:
    cache = StateCache(20)
    cache.put('a', b'123456789')
    cache.put('b', b'123456789')
    assert len(cache) == 2
    cache.put('b', b'1234567890')
    assert cache.get('a') is None
    assert cache.get('b') == b'1234567890'


def test_what_was_committed_longest_ago_is_dropped_first() -> None:
    cache = StateCache(6)
    for key in ('a', 'b', 'c', 'a', 'd'):
        cache.put(key, b'1')
    assert [key for key in 'abcd' if cache.get(key) is not None] == ['a', 'c', 'd']


def test_a_text_larger_than_the_limit_is_not_kept_and_drops_the_others() -> None:
    cache = StateCache(10)
    cache.put('a', b'1')
    cache.put('b', b'x' * 11)
    assert len(cache) == 0
    cache.put('c', b'1')
    assert cache.get('c') == b'1'


def test_a_limit_of_nothing_keeps_nothing() -> None:
    cache = StateCache(0)
    cache.put('a', b'')
    assert len(cache) == 0


@pytest.mark.parametrize('again', [False, True])
def test_what_is_forgotten_takes_no_room(again: bool) -> None:
    cache = StateCache(20)
    for _ in range(10):
        cache.put('a', b'123456789')
        cache.forget('a')
    if again:
        cache.forget('a')
    cache.put('b', b'123456789')
    cache.put('c', b'123456789')
    assert [cache.get(key) is not None for key in 'abc'] == [False, True, True]


def test_clearing_leaves_room_for_the_whole_limit() -> None:
    cache = StateCache(20)
    cache.put('a', b'123456789')
    cache.put('b', b'123456789')
    cache.clear()
    assert len(cache) == 0
    cache.put('c', b'123456789')
    cache.put('d', b'123456789')
    assert len(cache) == 2
