"""A cache for the results of slow functions, in the store ``memoization`` if there is one."""

from __future__ import annotations

import functools
import json
from typing import Any

import learning_observer.kvs
import learning_observer.prestartup

cache_backend: Any = None


@learning_observer.prestartup.register_startup_check
def connect_to_memoization_kvs() -> None:
    """Use the store that the router has now."""
    global cache_backend
    try:
        cache_backend = learning_observer.kvs.KVS.memoization()
    except AttributeError:
        print('no memoization')


def create_key_from_args(func: Any, *args: Any, **kwargs: Any) -> str:
    """The key of a call."""
    return json.dumps({'func': func.__name__, 'args': args, 'kwargs': kwargs}, sort_keys=True)


def async_memoization() -> Any:
    """A decorator for functions whose results are kept."""

    def decorator(func: Any) -> Any:
        @functools.wraps(func)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            if cache_backend is None:
                return await func(*args, **kwargs)
            key = create_key_from_args(func, args, kwargs)
            if key not in await cache_backend.keys():
                await cache_backend.set(key, await func(*args, **kwargs))
            return await cache_backend[key]

        return wrapper

    return decorator
