"""The memoization of a Learning Observer server: what its ``async_memoization`` decorates, on our stores.

The runtime lists all keys of its store with each call, to see whether one is there. Here a call reads one key, and
equal calls at the same time run the function once. Keys and values are as the runtime has them: either reads what the
other one wrote. Its entries do not say when they were made, so they count as long as they are stored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

from learning_observer_kvs.memoization import SingleFlight, copy_of, keep, read
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING


def replacement(runtime: Any) -> Callable[[], Callable[[Any], Any]]:
    """Return what replaces the runtime's ``async_memoization``.

    The runtime decorates functions within functions, anew with each request, and tells calls apart by the name of the
    function and its arguments alone. A function whose name another one has, or that sees other values from around it,
    may be given what that one has stored, as in the runtime; but it does not wait for the other one's run.

    Args:
        runtime: the package ``learning_observer``.

    Returns:
        A function that returns a decorator. What that makes is the runtime's own while the store is not one of ours.
    """
    original = runtime.cache.async_memoization
    calls: SingleFlight[Any] = SingleFlight()

    def async_memoization() -> Callable[[Any], Any]:
        def decorator(func: Any) -> Any:
            otherwise = original()(func)
            identity = _identity(func)

            async def look_up(store: Store, key: str, args: Any, kwargs: Any) -> Any:
                found = await read(store, key)
                if found is not MISSING:
                    return found
                result = await func(*args, **kwargs)
                await keep(store, key, result)
                return result

            @functools.wraps(func)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                store = runtime.cache.cache_backend
                if not isinstance(store, Store):
                    return await otherwise(*args, **kwargs)
                key = runtime.cache.create_key_from_args(func, args, kwargs)
                value, begins = await calls.run((store, key, identity), lambda: look_up(store, key, args, kwargs))
                # As in the runtime, the call that ran the function gets its result as it is.
                return value if begins else copy_of(value)

            return wrapper

        return decorator

    return async_memoization


def _identity(func: Any) -> Hashable:
    """What tells functions apart: the code, and the values that it sees from around it."""
    code = getattr(func, '__code__', None)
    if code is None:
        return id(func)
    try:
        return code, tuple(id(cell.cell_contents) for cell in func.__closure__ or ())
    except ValueError:  # a cell that has no value yet
        return id(func)
