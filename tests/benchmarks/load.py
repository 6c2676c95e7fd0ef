"""What is done for every contender alike: states of a realistic shape, events, and the reducer that folds them.

A state is what an analysis of writing keeps: words with counts and timestamps, paragraphs, totals. Every event changes
some of its numbers, so no two texts that are stored are equal, and its size stays what it is. The external state is a
summary of about 0.1 KB.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.stream_analytics.helpers import (
    KeyField,
    KeyStateType,
    Pipeline,
    fully_qualified_function_name,
    make_key,
    student_event_reducer,
)

START = 1_700_000_000_000
"""Unix time in milliseconds when the writing begins."""

SIZES = {'0.3 KB': 300, '3 KB': 3_000, '50 KB': 50_000, '200 KB': 200_000}
"""The sizes of internal states, in bytes of compact JSON."""

REDUCERS = 5
"""How many reducers a dashboard looks at."""

Apply = Callable[[Any], Awaitable[JSON]]
"""Takes an event of one student, gives the external state."""


def _vocabulary(count: int) -> list[str]:
    dice = random.Random(7)
    syllables = [a + b for a in 'bdfglmnprst' for b in ('a', 'e', 'i', 'o', 'u', 'ou', 'é')]
    words: dict[str, None] = {}
    while len(words) < count:
        words[''.join(dice.choices(syllables, k=dice.randint(2, 4)))] = None
    return list(words)


WORDS = _vocabulary(4000)


def new_state(size: int) -> dict[str, Any]:
    """An internal state whose compact JSON text has about so many bytes."""
    dice = random.Random(size)
    state: dict[str, Any] = {
        'total': 0,
        'last': START,
        'worked': 0,
        'events': {'keystroke': 0, 'deletion': 0, 'visibility': 3},
        'paragraphs': [],
        'words': {},
    }

    def room() -> int:
        return size - len(json.dumps(state, separators=(',', ':'), ensure_ascii=False).encode())

    words = iter(WORDS)
    while True:
        some = max(1, room() // 80)  # a word and its numbers take some 65 bytes
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
        if room() < 80:
            return state


def write(event: Any, state: Any) -> tuple[JSON, JSON]:
    """The reducer: note a keystroke in a word of a paragraph. It is light, so that stores are measured."""
    client = event['client']
    now, place = client['timestamp'], client['place']
    words, paragraphs = state['words'], state['paragraphs']
    word = words[WORDS[place % len(words)]]
    word['count'] += 1
    word['last'] = now
    paragraphs[place % len(paragraphs)]['edits'] += 1
    state['events'][client['event']] += 1
    state['total'] = total = state['total'] + 1
    state['worked'] = worked = state['worked'] + client['gap']
    state['last'] = now
    return state, {'total': total, 'words': len(words), 'worked': worked, 'last': now, 'word': word}


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
            'place': dice.randrange(1_000_000),
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
        reducers: pipelines of this package, equal but for their names.
    """

    label: str
    null_text: str
    reducers: tuple[Pipeline, ...]

    def null_state(self) -> Any:
        """A fresh copy of the state that every student starts from."""
        return json.loads(self.null_text)

    def keys(self, student: str, reducer: int = 0) -> tuple[str, str]:
        """The internal and the external key of a student."""
        fields: dict[Any, Any] = {KeyField.STUDENT: student}
        function = self.reducers[reducer]
        return make_key(function, fields, KeyStateType.INTERNAL), make_key(function, fields, KeyStateType.EXTERNAL)


@functools.cache
def state_of(label: str) -> State:
    """The state of a size; see ``SIZES``."""
    start = new_state(SIZES[label])
    return State(label, json.dumps(start), tuple(_pipeline(number, start) for number in range(REDUCERS)))


def _pipeline(number: int, null_state: JSON) -> Pipeline:
    async def writing(event: Any, internal_state: Any) -> Any:
        return write(event, internal_state)

    writing.__qualname__ = f'writing_{number}'
    pipeline: Pipeline = student_event_reducer(null_state=null_state)(writing)
    assert fully_qualified_function_name(pipeline).endswith(f'writing_{number}')
    return pipeline


def student(number: int) -> str:
    """The name of a student."""
    return f'ls-{number:06}'
