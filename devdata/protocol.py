"""The messages of browsers to the server over ``/wsapi/in/``: each is a JSON object with an ``event``.

``{"event": "lock_fields", "fields": {…}}`` may come first: its fields are added to every later event. Events follow,
and at the end ``{"event": "terminate"}``.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stream_analytics.process_event import GUEST


class BadMessage(ValueError):
    """What a browser sent is not a valid message; the text says why."""


def read(message: WSMessage) -> dict[str, Any]:
    """Parse a message.

    Args:
        message: a message of a websocket.

    Returns:
        Its JSON object, with an ``event``.

    Raises:
        BadMessage: it is not text, not JSON, or not an object with an ``event``.
    """
    if message.type is not WSMsgType.TEXT:
        raise BadMessage('Send messages as text.')
    try:
        found = json_codec.decode(message.data)
    except CorruptValue as error:
        raise BadMessage(f'The message {error}.') from None
    if not isinstance(found, dict) or not isinstance(found.get('event'), str):
        raise BadMessage('The message is not an object with an "event" that names its kind.')
    if found['event'] == 'lock_fields' and not isinstance(found.get('fields', {}), dict):
        raise BadMessage('The "fields" of lock_fields are not an object.')
    return found


def full_event(client: dict[str, Any], request: web.Request) -> dict[str, Any]:
    """Return an event as reducers receive it.

    Args:
        client: what the browser sent.
        request: the request that opened the connection.

    Returns:
        The event: ``client``, ``server`` (what the server adds) and ``metadata`` (its source, and its student).

    Raises:
        BadMessage: its ``auth`` does not name a student.
    """
    auth = client.get('auth')
    if auth is not None and not (isinstance(auth, dict) and isinstance(auth.get('safe_user_id'), str)):
        raise BadMessage('The "auth" of the event has no "safe_user_id", which names the student.')
    server = {
        'time': time.time(),
        'origin': request.headers.get('Origin', ''),
        'agent': request.headers.get('User-Agent', ''),
        'ip': request.remote or '',
        'executable': 'aio_webapp',
    }
    metadata = {'source': client.get('source'), **({} if auth is None else {'auth': auth})}
    return {'client': client, 'server': server, 'metadata': metadata}


def student_of(event: dict[str, Any]) -> str:
    """Return the id of an event's student.

    Args:
        event: as :func:`full_event` returns it.

    Returns:
        The safe id; ``[guest]`` if the event has no ``auth``.
    """
    student: str = event['metadata'].get('auth', {}).get('safe_user_id', GUEST)
    return student
