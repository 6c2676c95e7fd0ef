"""What a replay takes from an event: whether it is one, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from learning_observer_kvs.errors import EventFileError


def is_event(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a value of a file is an event: an object with an object ``client``.

    Args:
        value: any JSON value.
    """
    return isinstance(value, dict) and isinstance(value.get('client'), dict)


def metadata_of(event: Mapping[str, Any], location: str) -> Mapping[str, Any]:
    """Return the metadata of the connection that an event came by.

    Args:
        event: an event as reducers get it.
        location: where it is kept, for the message.

    Returns:
        Its metadata; of an event without, the ``auth`` and the ``source`` of its client part. Without an ``auth`` it
        names no student.

    Raises:
        EventFileError: there is an ``auth`` that does not name the student.
    """
    name, metadata = 'metadata', event.get('metadata')
    if not metadata:
        name = 'client'
        metadata = {part: event['client'][part] for part in ('auth', 'source') if event['client'].get(part) is not None}
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


_AUTH_FIELDS = ('user_id', 'safe_user_id', 'id', 'email', 'email_address')


def student_ids(event: Any) -> Iterator[str]:
    """Yield what an event calls the student whose it is.

    Args:
        event: any JSON value.
    """
    if not isinstance(event, Mapping):
        return
    for holder in (event.get('metadata'), event.get('client'), event):
        auth = holder.get('auth') if isinstance(holder, Mapping) else None
        if isinstance(auth, Mapping):
            yield from (auth[name] for name in _AUTH_FIELDS if isinstance(auth.get(name), str))
