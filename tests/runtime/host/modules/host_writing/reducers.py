"""Reducers, decorated by the host."""

from __future__ import annotations

import asyncio
from typing import Any

import learning_observer.settings
from learning_observer.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer.stream_analytics.helpers import kvs_pipeline, student_event_reducer

STUDENT = Scope([KeyField.STUDENT])
DOCUMENT = Scope([KeyField.STUDENT, EventField('doc_id')])
CLASS = Scope([KeyField.CLASS])


@student_event_reducer(null_state={'count': 0})
async def count(event: Any, state: Any) -> Any:
    """Count the events of a student, with a pause in which other events may run; it reads the settings."""
    await asyncio.sleep(0)
    assert learning_observer.settings.settings is not None
    state['count'] += 1
    return state, {'events': state['count']}


@kvs_pipeline(scope=DOCUMENT, null_state={'words': {}})
async def words(event: Any, state: Any) -> Any:
    """Count how often each word was written; an event without a word writes nothing."""
    word = event['client'].get('word')
    if word is None:
        return False, False
    state['words'][word] = state['words'].get(word, 0) + 1
    return state, {'different': len(state['words'])}


@kvs_pipeline(scope=DOCUMENT, null_state={'count': 0})
async def listed_by_student(event: Any, state: Any) -> Any:
    """Count the events of a document, but be listed with another scope, so that no document is known."""
    return {'count': state['count'] + 1}, False


@kvs_pipeline(null_state=[], module_override='essays', qualname_override='now_and_then')
async def often_none(event: Any, state: Any) -> Any:
    """Set its state to null at every third event."""
    state.append(event['client']['number'])
    return (None if len(state) == 3 else state), False


@student_event_reducer(null_state={'at': {}})
async def moments(event: Any, state: Any) -> Any:
    """Use numbers as keys, in one dictionary with the text that JSON made of them before."""
    state['at'][event['client']['number'] % 3] = event['client']['number']
    return state, state


@kvs_pipeline(scope=CLASS)
async def of_a_class(event: Any, state: Any) -> Any:
    """Have a scope with a field that no event has."""
    return state, state


@kvs_pipeline(null_state={1, 2})
async def of_a_set(event: Any, state: Any) -> Any:
    """Have a null state that is not JSON."""
    return state, state
