"""A write that lost against others is tried again after a pause that grows and is drawn at random."""

from __future__ import annotations

import asyncio

import pytest

from learning_observer_kvs.stores import pacing


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of each pause; none is waited for."""
    noted: list[float] = []

    async def note(seconds: float) -> None:
        noted.append(seconds)

    monkeypatch.setattr(asyncio, 'sleep', note)
    return noted


async def test_pauses_grow_with_the_attempts_to_ten_milliseconds(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('random.random', lambda: 1.0)
    for attempt in (0, 1, 2, 10, 11, 1000):
        await pacing.pause(attempt)
    assert pauses == [0, 0.001, 0.002, 0.01, 0.01, 0.01]


async def test_pauses_of_two_writers_differ(pauses: list[float]) -> None:
    for _ in range(20):
        await pacing.pause(5)
    assert len(set(pauses)) > 1
    assert all(0 <= seconds < 0.005 for seconds in pauses)
