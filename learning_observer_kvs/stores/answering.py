"""Whether stores answer now: what a load balancer asks a server, every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from learning_observer_kvs.errors import KVSError
from learning_observer_kvs.stores.base import Store

KEY = 'learning_observer_kvs.health'
"""A key that is read to see whether a store answers; it need not be there."""


async def check_answers(stores: Mapping[str, Store], timeout: float) -> dict[str, Any]:
    """Read a key of each store, all at the same time.

    Args:
        stores: the stores by name.
        timeout: seconds that a store may take.

    Returns:
        ``ok``, whether all stores answer and can be written, and under ``stores`` the same of each, with the
        ``seconds`` that it took, and a ``message`` where it is not.
    """
    answers = await asyncio.gather(*(_check(store, timeout) for store in stores.values()))
    return {'ok': all(answer['ok'] for answer in answers), 'stores': dict(zip(stores, answers, strict=True))}


async def _check(store: Store, timeout: float) -> dict[str, Any]:
    began, message = time.monotonic(), None
    try:
        async with asyncio.timeout(timeout):
            await store.read_bytes([KEY])
    except TimeoutError:
        message = f'{store.location()} does not answer within {timeout:g} s.'
    except KVSError as error:
        message = str(error)
    else:
        if store.metrics().get('is_away'):
            message = f'{store.location()} cannot be written. What is to be written waits.'
    seconds = time.monotonic() - began
    return {'ok': message is None, 'seconds': seconds} | ({} if message is None else {'message': message})
