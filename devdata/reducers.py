"""Reducers for writing: the text of a document, time on task, counts of events, the list of documents.

Each is a function of an event and the state so far that returns a new internal state (for the next event) and an
external state (for dashboards). ``event['client']`` is what the browser sent.
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

LONGEST_GAP = 60.0
"""Seconds between two events that count as time on task, at most."""

DOCUMENT_SCOPE = Scope([KeyField.STUDENT, EventField('doc_id')])


@kvs_pipeline(scope=DOCUMENT_SCOPE, null_state={'text': ''})
async def reconstruct(event: Any, internal_state: Any) -> Any:
    """Reconstruct the text of a document from its edits: ``{'text': …}``."""
    client = event['client']
    if client['event'] == 'google_docs_save':
        commands = [command for bundle in client.get('bundles', ()) for command in bundle.get('commands', ())]
        text = apply_commands(internal_state['text'], commands)
    elif client['event'] == 'document_history':
        # The whole history of the document, which includes the edits that were processed before.
        changes = client.get('history', {}).get('changelog', ())
        text = apply_commands('', [change[0] for change in changes if change])
    else:
        return False, False
    return {'text': text}, {'text': text}


def apply_commands(text: str, commands: Iterable[Command]) -> str:
    """Apply commands of an editor to a text.

    Args:
        text: the document's text.
        commands: ``is`` inserts ``s`` at the 1-based position ``ibi``; ``ds`` deletes the characters ``si`` to ``ei``;
            ``mlti`` contains a list of commands; others (style, for example) do not change the text. Positions count
            UTF-16 units, as browsers do, so an emoji counts as two; those outside the text mean its ends.

    Returns:
        The text after the commands.
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
    """A text with one character for each UTF-16 unit; the same text unless it has emoji or the like."""
    if text.isascii():
        return text
    data = text.encode('utf-16-le', 'surrogatepass')
    if len(data) == 2 * len(text):
        return text
    return ''.join(chr(data[i] | data[i + 1] << 8) for i in range(0, len(data), 2))


def _from_units(units: str) -> str:
    """The reverse; half of a surrogate pair stays as it is until the other half follows."""
    if units.isascii():
        return units
    return units.encode('utf-16-le', 'surrogatepass').decode('utf-16-le', 'surrogatepass')


@student_event_reducer(null_state={'last': None, 'seconds': 0.0})
async def time_on_task(event: Any, internal_state: Any) -> Any:
    """Measure how long a student has worked: ``{'seconds': …}``, without pauses of over a minute."""
    now = event['client']['timestamp'] / 1000
    gap = now - internal_state['last'] if internal_state['last'] is not None else 0.0
    seconds = internal_state['seconds'] + (gap if 0 < gap <= LONGEST_GAP else 0.0)
    return {'last': now, 'seconds': seconds}, {'seconds': round(seconds, 1)}


@student_event_reducer(null_state={})
async def event_count(event: Any, internal_state: Any) -> Any:
    """Count the events of each kind: ``{'total': …, 'kinds': {kind: …}}``."""
    kind = event['client']['event']
    internal_state[kind] = internal_state.get(kind, 0) + 1
    return internal_state, {'total': sum(internal_state.values()), 'kinds': internal_state}


@student_event_reducer(null_state={'documents': {}, 'current': None})
async def document_list(event: Any, internal_state: Any) -> Any:
    """List a student's documents, and which one is open: ``{'documents': {id: {…}}, 'current': id}``."""
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
