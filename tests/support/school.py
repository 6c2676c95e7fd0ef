"""A server with the states of a class that wrote essays, and every page of it, for those who look at pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from yarl import URL

from devdata.reducers import REDUCERS
from devdata.server import make_app
from devdata.sessions import Session, sample
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.event_pipeline import event_pipeline
from tests.support import demo

STUDENT = 'ls-student-01'

ESSAY = 'devdata.reducers.reconstruct'

OTHERS: dict[str, Any] = {
    f'course:{course}:{name}': value
    for course in ('biology', 'history', 'poetry')
    for name, value in (('roster', ['ls-student-01', 'ls-student-02']), ('title', f'A year of {course}'))
}
"""Values that are not of reducers, in the store ``courses``."""


class Page(NamedTuple):
    """A page, by a word for it."""

    name: str
    path: str
    query: dict[str, str] = {}

    def url(self, server: URL) -> str:
        """Return its address on a server."""
        return str(server.join(URL(self.path)).with_query(self.query))


def settings(folder: Path) -> dict[str, Any]:
    """Return the settings of the server: its stores are in the folder."""
    settings = demo.settings(folder)
    settings['kvs'] |= {
        'courses': {'type': 'filesystem', 'path': str(folder / 'courses')},
        'memoization': {'type': 'stub'},
    }
    return settings


def make_school(folder: Path) -> web.Application:
    """Make the application of the server, not started."""
    return make_app(settings(folder))


async def write(router: KVSRouter, sessions: Sequence[Session], begin: float = 0.0, end: float = 1.0) -> None:
    """Have students write at once, as fast as the stores are.

    Args:
        router: the stores of the server.
        sessions: of each student one.
        begin: after which share of their sessions they go on.
        end: after which share they stop.
    """

    async def one(session: Session) -> None:
        count = len(session.events)
        pipeline = await event_pipeline(REDUCERS, session.events[0]['metadata'], router=router)
        for event in session.events[round(begin * count) : round(end * count)]:
            for outcome in await pipeline.outcomes(event):
                assert outcome.error is None, outcome.error

    await asyncio.gather(*map(one, sessions))


def class_of(students: int) -> list[Session]:
    """Return the sessions of a class of so many students."""
    return list(sample(students, seed=7).values())


async def fill(router: KVSRouter, students: int) -> None:
    """Have a class write, and keep some values of other programs.

    Args:
        router: the stores of the server.
        students: how many write.
    """
    await write(router, class_of(students))
    await keep_others(router)


async def keep_others(router: KVSRouter) -> None:
    """Keep some values of other programs."""
    await router['courses'].multiset(OTHERS)
    await router['memoization'].multiset(
        {'grammar:3f9a': {'errors': 2, 'of': 118}, 'google_stored_auth': {'token': 's3cret', 'user': 'teacher@school'}}
    )


async def pages(router: KVSRouter) -> list[Page]:
    """Return every kind of page of a server whose class has written."""
    store = router()
    essay = next(key for key in await store.keys(f'Internal,{ESSAY},') if key.endswith(f'STUDENT:{STUDENT}'))
    document = essay.partition('EventField.doc_id:')[2].partition(',')[0]
    default = '/debug/kvs/default'
    return [
        Page('class page of the demo', '/'),
        Page('stores', '/debug/kvs'),
        Page('keys', default),
        Page('keys, inside values', default, {'text': 'school', 'inside': 'values', 'state': 'External'}),
        Page('keys by prefix', '/debug/kvs/courses', {'prefix': 'course:'}),
        Page('find', '/debug/kvs/stores/find', {'text': 'student'}),
        Page('value', f'{default}/key', {'key': essay}),
        Page('counts', f'{default}/key', {'key': f'External,devdata.reducers.event_count,STUDENT:{STUDENT}'}),
        Page('masked value', '/debug/kvs/memoization/key', {'key': 'google_stored_auth'}),
        Page('part', f'{default}/part', {'key': essay, 'path': '["text"]'}),
        Page('matches', f'{default}/matches', {'key': essay, 'text': 'the'}),
        Page('student', '/debug/kvs/stores/student', {'student': STUDENT}),
        Page('document', '/debug/kvs/stores/document', {'document': document}),
        Page('reducers', f'{default}/reducers'),
        Page('reducer', f'{default}/reducer', {'reducer': ESSAY}),
        Page('class', f'{default}/class', {'reducers': 'devdata.reducers.time_on_task,' + ESSAY}),
        Page('error', '/debug/kvs/nowhere'),
    ]
