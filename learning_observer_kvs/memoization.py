"""Results of functions that are kept in a store, so that equal calls need not run again.

@memoize(KVS.memoization, expiry=60)
async def grammar(text):
    return await language_tool(text)
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, ParamSpec, TypeVar

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import CorruptValue, InvalidKey, InvalidValue, KVSError
from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.per_loop import PerLoop
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES, display_key
from learning_observer_kvs.stores.types import MISSING

log = logging.getLogger('learning_observer_kvs')

P = ParamSpec('P')
T = TypeVar('T')

MADE, VALUE = 'made', 'value'
"""What an entry holds: when it was made, in seconds since the epoch, and what the function returned."""

_HALVES = re.compile('[\ud800-\udbff][\udc00-\udfff]')
"""Two surrogates in a text, which JSON writes as the one character that they are the halves of."""


def memoize(
    store: Store | Callable[[], Store],
    expiry: float | None = None,
    key: Callable[..., str] | None = None,
    *,
    now: Callable[[], float] = time.time,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Keep what a coroutine function returns in a store; equal calls get it from there.

    Equal calls at the same time, in one event loop, run the function once. It goes on as long as one of them waits for
    it: a caller that is cancelled takes only its own wait with it. A result that is there costs one round trip.

    Args:
        store: where results are kept, or a callable that returns it with each call, such as ``KVS.memoization``.
        expiry: seconds for which a result counts, by the clocks of the machines; ``None``: as long as it is stored.
            The entry says when it was made, so this works on every store. Entries that are too old are replaced by the
            next call, not removed.
        key: returns the key of a call from its arguments; by default it is made of the function's name, which has to
            stand for one function alone, and all arguments, which must be JSON values then.
        now: the clock, in seconds since the epoch.

    Returns:
        A decorator. What it makes returns the result as JSON gives it back, a copy for each caller, and raises:
        what the function raised, which is not kept; ``InvalidKey`` where the arguments make no key; ``InvalidValue``
        where the result is not a JSON value; ``CorruptValue`` where the key holds something else; and
        ``StoreUnavailable`` or ``Overloaded`` where the store cannot be read. If the result cannot be stored, that is
        logged, and it is returned.

    Raises:
        ValueError: ``expiry`` is not above 0; or, from the decorator, there is no ``key`` and other functions may have
            the name: one that is defined inside another function, and may see other values each time; a lambda, a
            bound method, a ``partial``, an object.
    """
    if expiry is not None and not expiry > 0:
        raise ValueError(f'expiry is {expiry}; it must be above 0 seconds, or None.')

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        calls: SingleFlight[JSON] = SingleFlight()
        name = function_name(func) if key is None else ''

        async def look_up(here: Store, at: str, args: Any, kwargs: Any) -> JSON:
            entry = await read(here, at)
            if entry is not MISSING:
                if not is_entry(entry):
                    raise CorruptValue(
                        f'{display_key(at)} in store {here.name!r} ({here.location()}) holds something that memoize '
                        'did not write. Use another store, or another key.'
                    )
                if expiry is None or abs(now() - entry[MADE]) < expiry:
                    return entry[VALUE]
            value: Any = await func(*args, **kwargs)
            await keep(here, at, {MADE: now(), VALUE: value})
            return value

        @functools.wraps(func)
        async def memoized(*args: P.args, **kwargs: P.kwargs) -> T:
            here = store if isinstance(store, Store) else store()
            at = call_key(name, args, kwargs) if key is None else key(*args, **kwargs)
            value, _ = await calls.run((here, at), lambda: look_up(here, at, args, kwargs))
            return copy_of(value)  # type: ignore[no-any-return]

        return memoized

    return decorator


def function_name(func: Callable[..., Any]) -> str:
    """Return what a function is called in keys: ``module.function``.

    Args:
        func: the function.

    Raises:
        ValueError: other functions may have its name.
    """
    name = getattr(func, '__qualname__', None)
    if name is None or '<' in name or inspect.ismethod(func):  # <locals>, <lambda>
        raise ValueError(
            f'Several functions may be called {name or type(func).__name__}, or one that sees other values each time; '
            'their results would mix. Give memoize a key=, or a function that is defined in a module.'
        )
    return f'{func.__module__}.{name}'


def call_key(name: str, args: Any, kwargs: Any) -> str:
    """Return the key of a call: JSON of the function's name and the arguments.

    Args:
        name: the function's name.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Returns:
        The key; where that would be too long, the arguments are in it as a digest. A tuple is a list in it.

    Raises:
        InvalidKey: the arguments are not JSON values.
    """
    call = {'args': args, 'func': name, 'kwargs': kwargs}
    try:
        text = json.dumps(call, sort_keys=True)
        _check_texts(call)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidKey(f'The arguments of {name} make no key: {error}. Give memoize a key=.') from None
    if len(text) > MAX_KEY_BYTES:  # it is ASCII
        digest = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
        text = json.dumps({'digest': digest, 'func': name}, sort_keys=True)
    return text


def _check_texts(value: Any) -> None:
    """Raise ``ValueError`` for what ``json`` writes as it writes another value: ``{1: …}`` as ``{'1': …}``."""
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f'the name {name!r} in an object is not text')
            _check_texts(name)
            _check_texts(value[name])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_texts(item)
    elif isinstance(value, str) and not value.isascii() and _HALVES.search(value):
        raise ValueError('a text has the two halves of a character, which JSON writes as the character')


async def read(store: Store, key: str) -> Any:
    """Return what a key holds, in one round trip; ``MISSING`` if it is not there.

    Args:
        store: the store.
        key: the key.
    """
    [found] = await store.multiget([key], missing=MISSING)
    return found


async def keep(store: Store, key: str, value: JSON) -> None:
    """Store a result that was computed; a store that cannot be written is logged, as the result is there all the same.

    Args:
        store: the store.
        key: the key.
        value: the result.

    Raises:
        InvalidKey, InvalidValue: it cannot be stored anywhere.
    """
    try:
        await store.set(key, value)
    except (InvalidKey, InvalidValue):
        raise
    except KVSError as error:
        log.warning('The result of %s is not kept: %s', display_key(key), error)


def is_entry(found: Any) -> bool:
    """Return whether a value is what :func:`memoize` keeps.

    Args:
        found: any JSON value.
    """
    return isinstance(found, dict) and found.keys() == {MADE, VALUE} and isinstance(found[MADE], (int, float))


def copy_of(value: JSON) -> JSON:
    """Return a value as JSON gives it back, which the caller may change.

    Args:
        value: any JSON value.
    """
    return json_codec.decode(json_codec.encode(value))


class SingleFlight(Generic[T]):
    """Work that several callers ask for at the same time, in one event loop, and that is done once."""

    def __init__(self) -> None:
        self._flights: PerLoop[dict[Hashable, _Flight[T]]] = PerLoop(dict)

    async def run(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, bool]:
        """Wait for work that is under way, or begin it.

        Args:
            key: what tells the work from other work.
            start: begins it, in a task of its own; which ends when its last caller is cancelled.

        Returns:
            The result, and whether this caller began the work.

        Raises:
            Exception: what the work raised.
        """
        flights = self._flights.here()
        flight = flights.get(key)
        begins = flight is None or flight.task.done() or flight.task.cancelling() > 0
        if flight is None or begins:
            flight = flights[key] = _Flight(asyncio.get_running_loop().create_task(start()))
            flight.task.add_done_callback(functools.partial(_end, flights, key))
        flight.callers += 1
        try:
            return await asyncio.shield(flight.task), begins
        finally:
            flight.callers -= 1
            if not flight.callers and not flight.task.done():
                flight.task.cancel()


class _Flight(Generic[T]):
    """Work under way, and how many wait for it."""

    __slots__ = ('callers', 'task')

    def __init__(self, task: asyncio.Task[T]) -> None:
        self.task = task
        self.callers = 0


def _end(flights: dict[Hashable, _Flight[Any]], key: Hashable, task: asyncio.Task[Any]) -> None:
    flight = flights.get(key)
    if flight is not None and flight.task is task:
        del flights[key]
