"""Keys that a store would take for its own, over pages of Redis keys that a test writes down."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from typing import Any

import pytest

from learning_observer_kvs.stores.redis.foreign import find_foreign_key
from learning_observer_kvs.stores.redis.names import META_PREFIX, Names


class Pages:
    """Stands for a connection; keys that begin with ``list`` hold lists."""

    def __init__(self, *pages: list[bytes]) -> None:
        self._pages = pages

    async def pages(self, count: int, pattern: str) -> AsyncGenerator[list[bytes], None]:
        for page in self._pages:
            yield page

    async def ask(self, *commands: Any) -> list[Any]:
        assert {name for name, _ in commands} == {'TYPE'}
        return [b'list' if key.startswith(b'list') else b'none' if key == b'gone' else b'string' for _, key in commands]


HIDDEN = META_PREFIX.encode() + b'writer:w'

CASES: dict[str, tuple[str, Collection[str], list[list[bytes]], str | None]] = {
    'nothing': ('', (), [[], []], None),
    'its own keys': ('', (), [[b'a', b'gone'], [b'b']], None),
    'another type': ('', (), [[b'a'], [b'b', b'list']], "'list', which holds a list, not a string"),
    'not text': ('', (), [[b'a', b'\xff']], r"b'\xff', a key that is not text"),
    'another store': ('', ('q:',), [[b'a'], [b'q:a']], "'q:a', a key of a store with the prefix 'q:'"),
    'another store below the prefix': ('p:', ('p:q:', 'r:'), [[b'p:a', b'p:q:a']], "a store with the prefix 'p:q:'"),
    'behind what is not text below the prefix': ('p:', ('p:q:',), [[b'p:\xff', b'p:q:a']], "the prefix 'p:q:'"),
    'a store with the same prefix': ('p:', ('p:',), [[b'p:a']], None),
    'a store beside it': ('p:', ('q:',), [[b'p:a']], None),
    'its own records': ('p:', ('p:q:',), [[b'p:' + HIDDEN]], None),
    'records of a store that another configuration has': ('', (), [[b'z:' + HIDDEN]], "the prefix 'z:'"),
    'records of another store': ('', ('z:',), [[b'z:' + HIDDEN]], None),
    'its own key with a hidden name in it': ('', (), [[Names('').redis_key('x' + META_PREFIX).encode()]], None),
}


@pytest.mark.parametrize('name', CASES)
async def test_what_others_wrote_is_found_before_a_store_is_cleared(name: str) -> None:
    prefix, others, pages, expected = CASES[name]
    connection: Any = Pages(*pages)
    found = await find_foreign_key(connection, Names(prefix), others)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert expected in found
