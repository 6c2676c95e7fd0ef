"""Reducers of the domain: the text of a document, time on task, events, documents.

Each is a function from an event and its state so far to a new internal state (for the next event) and an external one
(for a dashboard). See runtime events: ``event['client']`` is what the browser sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    Scope,
    kvs_pipeline,
    student_event_reducer,
)

Command = Mapping[str, Any]

PAUSE = 60.0
"""Seconds without an event after which a student is taken to do something else."""

DOCUMENT_SCOPE = Scope([KeyField.STUDENT, EventField('doc_id')])


@kvs_pipeline(scope=DOCUMENT_SCOPE, null_state={'text': ''})
async def reconstruct(event: Any, internal_state: Any) -> Any:
    """The text of a document, rebuilt from what was typed and deleted: ``{'text': …}``."""
    client = event['client']
    if client['event'] == 'google_docs_save':
        commands = [command for bundle in client.get('bundles', ()) for command in bundle.get('commands', ())]
        text = apply_commands(internal_state['text'], commands)
    elif client['event'] == 'document_history':
        # The whole past of the document: what was known of it before is in there.
        changes = client.get('history', {}).get('changelog', ())
        text = apply_commands('', [change[0] for change in changes if change])
    else:
        return False, False
    return {'text': text}, {'text': text}


def apply_commands(text: str, commands: Iterable[Command]) -> str:
    """A document's text after some commands.

    ``is`` inserts ``s`` at the 1-based place ``ibi``; ``ds`` deletes the characters ``si`` to ``ei``; ``mlti`` holds a
    list of commands. Others (style, for example) leave the text alone. Places are counted as browsers count, in
    UTF-16 units, so an emoji takes two; those outside the text are taken for its ends.
    """
    return _from_units(_apply(_to_units(text), commands))


def _apply(units: str, commands: Iterable[Command]) -> str:
    for command in commands:
        kind = command.get('ty')
        if kind == 'is':
            at = max(command.get('ibi', 1) - 1, 0)
            units = units[:at] + _to_units(command.get('s', '')) + units[at:]
        elif kind == 'ds':
            first = max(command.get('si', 1) - 1, 0)
            units = units[:first] + units[max(command.get('ei', 0), first) :]
        elif kind == 'mlti':
            units = _apply(units, command.get('mts', ()))
    return units


def _to_units(text: str) -> str:
    """A text with a character for each UTF-16 unit; the same text unless there are emoji or the like in it."""
    if text.isascii():
        return text
    data = text.encode('utf-16-le', 'surrogatepass')
    if len(data) == 2 * len(text):
        return text
    return ''.join(chr(data[i] | data[i + 1] << 8) for i in range(0, len(data), 2))


def _from_units(units: str) -> str:
    """The reverse; half an emoji stays half an emoji until its other half comes."""
    if units.isascii():
        return units
    return units.encode('utf-16-le', 'surrogatepass').decode('utf-16-le', 'surrogatepass')


@student_event_reducer(null_state={'last': None, 'seconds': 0.0})
async def time_on_task(event: Any, internal_state: Any) -> Any:
    """How long a student has worked: ``{'seconds': …}``; pauses of over a minute do not count."""
    now = event['client']['timestamp'] / 1000
    gap = now - internal_state['last'] if internal_state['last'] is not None else 0.0
    seconds = internal_state['seconds'] + (gap if 0 < gap <= PAUSE else 0.0)
    return {'last': now, 'seconds': seconds}, {'seconds': round(seconds, 1)}


@student_event_reducer(null_state={})
async def event_count(event: Any, internal_state: Any) -> Any:
    """How many events of each kind came: ``{'total': …, 'kinds': {kind: …}}``."""
    kind = event['client']['event']
    internal_state[kind] = internal_state.get(kind, 0) + 1
    return internal_state, {'total': sum(internal_state.values()), 'kinds': internal_state}


@student_event_reducer(null_state={'documents': {}, 'current': None})
async def document_list(event: Any, internal_state: Any) -> Any:
    """Which documents a student has, and which one is open: ``{'documents': {id: {…}}, 'current': id}``."""
    client = event['client']
    doc_id = client.get('doc_id')
    if doc_id is None:
        return False, False
    title = (client.get('object') or {}).get('title', '')
    known = internal_state['documents'].get(doc_id)
    if internal_state['current'] == doc_id and known and known['title'] == (title or known['title']):
        return False, False
    internal_state['documents'][doc_id] = {
        'title': title or (known['title'] if known else ''),
        'opened': client['timestamp'] / 1000,
    }
    internal_state['current'] = doc_id
    return internal_state, internal_state


REDUCERS = [reconstruct, time_on_task, event_count, document_list]
