"""How a program with types uses the package. A test checks this file with ``mypy --strict``; nothing runs it.

Each ``type: ignore`` stands at a mistake that must be found: ``mypy --strict`` reports one that ignores nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Any, assert_type

from aiohttp import web

from learning_observer_kvs import (
    KVS,
    KVS_KEY,
    MISSING,
    Conflict,
    KVSError,
    KVSRouter,
    Overloaded,
    Store,
    StoreUnavailable,
    WriteUnclear,
    setup,
    startup_hook,
)
from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    Pipeline,
    ProcessEvent,
    Scope,
    kvs_pipeline,
    student_event_reducer,
)

Event = dict[str, Any]


@student_event_reducer(null_state={'count': 0})
async def count_events(event: Event, state: Event) -> tuple[Event, Event]:
    return state, state


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]))
async def count_kinds(event: Event, state: Counter[str] | None) -> tuple[Counter[str] | bool, Event]:
    return False, {}


@kvs_pipeline(null_state=None)  # type: ignore[arg-type]
async def without_state(event: Event) -> tuple[Event, Event]:
    return event, event


@kvs_pipeline(null_state=None)  # type: ignore[arg-type]
def not_a_coroutine(event: Event, state: Event) -> tuple[Event, Event]:
    return event, state


async def reduce(metadata: Mapping[str, Any]) -> None:
    assert_type(count_events, Pipeline)
    assert_type(count_kinds, Pipeline)
    pipelines: list[Pipeline] = [count_events, count_kinds]

    process_event = await pipelines[0](metadata)
    assert_type(process_event, ProcessEvent)
    result: Awaitable[Any] = process_event({'event': 'keystroke'}, {'doc_id': '1AbC'})
    await result
    await process_event({'event': 'keystroke'})

    await count_events()
    await count_events(metadata, router=KVSRouter())
    await count_events(7)  # type: ignore[arg-type]
    await count_events(metadata, KVSRouter())  # type: ignore[call-arg]
    await count_events(metadata, student='bob')  # type: ignore[call-arg]
    await process_event()  # type: ignore[call-arg]
    await process_event({}, 'doc_id')  # type: ignore[arg-type]
    process_event({}) + 1  # type: ignore[operator]


async def keep(store: Store) -> None:
    await store.set('key', {'any': ['JSON']})
    await store.set(7, 'value')  # type: ignore[arg-type]
    assert_type(await store.remove('key'), bool)
    assert_type(await store.keys(), list[str])
    assert_type(await store.commit({'key': 1}, {'key': MISSING}), bool)
    try:
        await store.update('key', lambda value: (value or 0) + 1)
    except (Conflict, Overloaded, StoreUnavailable, WriteUnclear) as error:
        assert_type(error, Conflict | Overloaded | StoreUnavailable | WriteUnclear)
        raise KVSError(str(error)) from error


async def handler(request: web.Request) -> web.Response:
    router = request.app[KVS_KEY]
    assert_type(router, KVSRouter)
    assert_type(router(), Store)
    assert_type(KVS(), Store)
    return web.json_response(await router()['key'])


def application() -> web.Application:
    app = web.Application()
    setup(app, {'kvs': {'default': {'type': 'stub'}}}, authorize=lambda request, action, store, key: True)
    setup(app, authorize=True)  # type: ignore[arg-type]
    app.on_startup.append(startup_hook)
    return app
