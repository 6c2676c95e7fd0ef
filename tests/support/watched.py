"""A store that tests watch and hold up, and reducers to process events with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stores.base import Store

INTERNAL, EXTERNAL = 'Internal,r', 'External,r'
Texts = Mapping[str, bytes | None]


class Watched(Store):
    """A dictionary of texts.

    Args:
        options: of every store.

    Attributes:
        commits: what was written and expected, in order.
        reads: how often something was read.
        gate: commits wait here.
        before: called before each commit is carried out; it may raise.
        after: called after each, before its answer is given; it may raise.
    """

    TYPE: ClassVar[str] = 'watched'

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.texts: dict[str, bytes] = {}
        self.commits: list[tuple[Texts, Texts]] = []
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def location(self) -> str:
        return 'a test'

    async def read_bytes(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads += 1
        await asyncio.sleep(0)
        return [self.texts.get(key) for key in keys]

    async def commit_bytes(self, writes: Texts, expected: Texts) -> bool:
        self.commits.append((dict(writes), dict(expected)))
        await self.gate.wait()
        self.before()
        if any(self.texts.get(key) != text for key, text in expected.items()):
            return False
        for key, text in writes.items():
            if text is None:
                self.texts.pop(key, None)
            else:
                self.texts[key] = text
        self.after()
        return True

    async def _scan(self, prefix: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        return [key for key in self.texts if key.startswith(prefix)], None

    def another_writes(self, text: bytes) -> Callable[[], None]:
        """For ``before``: another process writes the internal state, once."""

        def write() -> None:
            self.texts[INTERNAL] = text
            self.before = lambda: None

        return write


def process(store: Store, step: Callable[[Any], Awaitable[Any]], null_text: bytes = b'null') -> asyncio.Future[Any]:
    return asyncio.ensure_future(worker_of(store).process(INTERNAL, EXTERNAL, step, null_text))


async def count(state: Any) -> Any:
    return (state or 0) + 1, (state or 0) + 1


async def count_slowly(state: Any) -> Any:
    await asyncio.sleep(0)
    return (state or 0) + 1, (state or 0) + 1


def count_after(go_on: asyncio.Event) -> Callable[[Any], Awaitable[Any]]:
    """A reducer that counts when an event is set."""

    async def count_later(state: Any) -> Any:
        await go_on.wait()
        return await count(state)

    return count_later


def send(store: Store, name: str, step: Any = count) -> asyncio.Future[Any]:
    """Process an event of another key than that of :func:`process`."""
    return asyncio.ensure_future(worker_of(store).process(f'Internal,{name}', f'External,{name}', step))


async def decline(state: Any) -> Any:
    return False, False


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is so, here at once or in another process."""
    turns = 0
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0 if turns < 1000 else 0.005)
            turns += 1


STEPS = pytest.mark.parametrize('step', [count, count_slowly], ids=['at once', 'waiting'])


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    async with Watched() as store:
        yield store
