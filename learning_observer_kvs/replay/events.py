"""What a replay takes from an event: whose it is, and the fields that each reducer is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from learning_observer_kvs.errors import EventFileError
from learning_observer_kvs.stream_analytics.event_pipeline import event_fields


def is_event(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a value of a file is an event: an object with an object ``client``.

    Args:
        value: any JSON value.
    """
    return isinstance(value, dict) and isinstance(value.get('client'), dict)


def fields_for(reducer: object, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the fields of an event that a server gives a reducer.

    Args:
        reducer: a pipeline. Where a Learning Observer server lists it, its attribute ``listed_fields`` has the names.
        event: an event as reducers get it.

    Returns:
        The values by name; ``None`` if the server does not give it the event, which lacks one of them.
    """
    names: Sequence[str] | None = getattr(reducer, 'listed_fields', None)
    if names is None:
        return event_fields(event)
    client = event['client']
    return {name: client[name] for name in names} if all(name in client for name in names) else None


def metadata_of(event: Mapping[str, Any], location: str) -> Mapping[str, Any] | None:
    """Return the metadata of the connection that an event came by.

    Args:
        event: an event as reducers get it.
        location: where it is kept, for the message.

    Returns:
        Its metadata; of an event without, the ``auth`` of its client part. ``None`` if neither names one: the
        student is ``[guest]`` then, as in the server.

    Raises:
        EventFileError: there is an ``auth`` that does not name the student.
    """
    name, metadata = 'metadata', event.get('metadata')
    if not metadata:
        name, metadata = 'client', None if (auth := event['client'].get('auth')) is None else {'auth': auth}
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise EventFileError(f'{location}  the "metadata" of the event is not an object.')
    if 'auth' not in metadata:
        return metadata
    auth = metadata['auth']
    if not isinstance(auth, Mapping) or not isinstance(auth.get('safe_user_id'), str):
        raise EventFileError(
            f'{location}  the "{name}.auth" of the event has no "safe_user_id", which names the student. Add it, or '
            'remove the event.'
        )
    return metadata
