"""What browsers and the server say to each other over ``/wsapi/in/``: messages, each a JSON object with an ``event``.

``{"event": "lock_fields", "fields": {…}}`` may come first: its fields stand in every later event. Then come events,
and at the end ``{"event": "terminate"}``.
"""

from __future__ import annotations

import time
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue
from learning_observer_kvs.stream_analytics.helpers import GUEST


class BadMessage(ValueError):
    """What a browser sent is no message; the text says what is wrong with it."""


def read(message: WSMessage) -> dict[str, Any]:
    """The object that a message holds.

    Raises:
        BadMessage: it is not text, not JSON, or no object with an ``event``.
    """
    if message.type is not WSMsgType.TEXT:
        raise BadMessage('Send messages as text.')
    try:
        found = json_codec.decode(message.data)
    except CorruptValue as error:
        raise BadMessage(f'The message {error}.') from None
    if not isinstance(found, dict) or not isinstance(found.get('event'), str):
        raise BadMessage('The message is no object with an "event" that names its kind.')
    if found['event'] == 'lock_fields' and not isinstance(found.get('fields', {}), dict):
        raise BadMessage('The "fields" of lock_fields are no object.')
    return found


def full_event(client: dict[str, Any], request: web.Request) -> dict[str, Any]:
    """An event as reducers receive it: what the browser sent, what the server knows, and who it is from.

    Raises:
        BadMessage: its ``auth`` does not say who that is.
    """
    auth = client.get('auth')
    if auth is not None and not (isinstance(auth, dict) and isinstance(auth.get('safe_user_id'), str)):
        raise BadMessage('The "auth" of the event has no "safe_user_id", which says whose it is.')
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
    """Whose event it is."""
    student: str = event['metadata'].get('auth', {}).get('safe_user_id', GUEST)
    return student
