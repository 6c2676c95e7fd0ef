"""The work of every contender: states of a realistic shape, events, and the reducers.

A state is what an analysis of writing keeps: words with counts and timestamps, paragraphs, totals. Every event changes
some of its numbers, so no two texts that are stored are equal, and its size stays what it is. The external state is a
summary of about 0.1 KB, or the internal state itself, which most reducers of the runtime's modules return twice.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from learning_observer_kvs.stream_analytics.helpers import (
    KeyField,
    KeyStateType,
    Pipeline,
    fully_qualified_function_name,
    make_key,
    student_event_reducer,
)

JSON: TypeAlias = Any
"""What JSON holds. Not imported from the package, so that the cases run on older checkouts too."""

START = 1_700_000_000_000
"""Unix time in milliseconds when the writing begins."""

SIZES = {'0.3 KB': 300, '3 KB': 3_000, '50 KB': 50_000, '200 KB': 200_000}
"""The sizes of internal states, in bytes of compact JSON."""

REDUCERS = 5
"""How many reducers a dashboard looks at."""

UPSTREAM_REDUCERS = 13
"""How many reducers an event goes through in a server with its writing modules."""

ProcessEvent = Callable[[Any], Awaitable[JSON]]
"""Processes an event of one student, and returns the external state."""

Reduce = Callable[[Any, Any], tuple[JSON, JSON]]
"""A reducer: event and internal state to internal and external state."""


def _vocabulary(count: int) -> list[str]:
    dice = random.Random(7)
    syllables = [a + b for a in 'bdfglmnprst' for b in ('a', 'e', 'i', 'o', 'u', 'ou', 'é')]
    words: dict[str, None] = {}
    while len(words) < count:
        words[''.join(dice.choices(syllables, k=dice.randint(2, 4)))] = None
    return list(words)


WORDS = _vocabulary(4000)


def new_state(size: int) -> dict[str, Any]:
    """Return an internal state whose compact JSON text has about so many bytes."""
    dice = random.Random(size)
    state: dict[str, Any] = {
        'total': 0,
        'last': START,
        'worked': 0,
        'events': {'keystroke': 0, 'deletion': 0, 'visibility': 3},
        'paragraphs': [],
        'words': {},
    }

    def missing() -> int:
        return size - len(json.dumps(state, separators=(',', ':'), ensure_ascii=False).encode())

    words = iter(WORDS)
    while True:
        some = max(1, missing() // 80)  # a word with its numbers has some 65 bytes
        for _ in range(some):
            first = START + dice.randrange(3_600_000)
            state['words'][next(words)] = {
                'count': dice.randrange(10, 100),
                'first': first,
                'last': first + dice.randrange(600_000),
            }
        while len(state['paragraphs']) < 1 + len(state['words']) // 60:
            paragraph = {'chars': dice.randrange(200, 900), 'edits': dice.randrange(100, 900)}
            state['paragraphs'].append(paragraph)
        if missing() < 80:
            return state


def write(event: Any, state: Any) -> tuple[JSON, JSON]:
    """Note a keystroke in a word of a paragraph, and sum up. It is light, so that stores are measured."""
    client = event['client']
    now, position = client['timestamp'], client['position']
    words, paragraphs = state['words'], state['paragraphs']
    word = words[WORDS[position % len(words)]]
    word['count'] += 1
    word['last'] = now
    paragraphs[position % len(paragraphs)]['edits'] += 1
    state['events'][client['event']] += 1
    state['total'] = total = state['total'] + 1
    state['worked'] = worked = state['worked'] + client['gap']
    state['last'] = now
    return state, {'total': total, 'words': len(words), 'worked': worked, 'last': now, 'word': word}


def write_twice(event: Any, state: Any) -> tuple[JSON, JSON]:
    """Do the same, and return one object as both states."""
    internal, _ = write(event, state)
    return internal, internal


def _events(count: int) -> list[dict[str, Any]]:
    dice = random.Random(11)
    now, found = START, []
    for _ in range(count):
        gap = dice.randrange(40, 900)
        now += gap
        client = {
            'event': 'deletion' if dice.random() < 0.15 else 'keystroke',
            'source': 'org.mitros.writing_analytics',
            'timestamp': now,
            'gap': gap,
            'position': dice.randrange(1_000_000),
        }
        found.append({'client': client})
    return found


EVENTS = _events(1024)
"""What students do, over and over."""


@dataclass(frozen=True)
class State:
    """A size of states, and the reducers that keep states of that size.

    Attributes:
        label: how the tables call it.
        null_text: the text of the state that every student starts from, by the standard ``json``.
        reduce: what each reducer does.
        reducers: pipelines of this package, equal but for their names.
    """

    label: str
    null_text: str
    reduce: Reduce
    reducers: tuple[Pipeline, ...]

    def null_state(self) -> Any:
        """Return a fresh copy of the state that every student starts from."""
        return json.loads(self.null_text)

    def keys(self, student: str, reducer: int = 0) -> tuple[str, str]:
        """Return the internal and the external key of a student."""
        fields: dict[Any, Any] = {KeyField.STUDENT: student}
        function = self.reducers[reducer]
        return make_key(function, fields, KeyStateType.INTERNAL), make_key(function, fields, KeyStateType.EXTERNAL)


@functools.cache
def state_of(label: str) -> State:
    """Return the state of a size; see ``SIZES``."""
    return _state(label, 'writing', write, REDUCERS)


@functools.cache
def upstream_state_of(label: str) -> State:
    """Return the same with as many reducers as the runtime's modules have; they return one object twice, too."""
    return _state(label, 'upstream', write_twice, UPSTREAM_REDUCERS)


def _state(label: str, name: str, reduce: Reduce, count: int) -> State:
    start = new_state(SIZES[label])
    pipelines = tuple(_pipeline(f'{name}_{number}', reduce, start) for number in range(count))
    return State(label, json.dumps(start), reduce, pipelines)


def _pipeline(name: str, reduce: Reduce, null_state: JSON) -> Pipeline:
    async def reducer(event: Any, internal_state: Any) -> Any:
        return reduce(event, internal_state)

    reducer.__qualname__ = name
    pipeline: Pipeline = student_event_reducer(null_state=null_state)(reducer)
    assert fully_qualified_function_name(pipeline).endswith(name)
    return pipeline


def student(number: int) -> str:
    """Return the name of a student."""
    return f'ls-{number:06}'
