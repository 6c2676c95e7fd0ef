"""The door to a real Learning Observer, which imports this module by the entry point group ``lo_modules``.

Importing it puts the stores of this package in the place of the runtime's own, with no change to its source:

- its ``kvs_startup_check`` and ``KVSRouter`` are ours, so that ``learning_observer.kvs.KVS`` is our ``KVS``;
- reducers that its decorators made are folded by our stores (see :func:`folded` for which);
- ``/debug/kvs`` is served to its administrators, and its application closes the stores when it ends.

``kvs_plugin: false`` in its settings leaves it as it was.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, FunctionType
from typing import Any

import learning_observer.auth
import learning_observer.cache
import learning_observer.kvs
import learning_observer.module_loader
import learning_observer.prestartup
import learning_observer.routes
import learning_observer.settings
import learning_observer.stream_analytics
import learning_observer.stream_analytics.helpers
from aiohttp import web

from learning_observer_kvs import debug, plugin, prestartup, settings
from learning_observer_kvs.config import pmss_source
from learning_observer_kvs.errors import InvalidValue, KVSError, StartupCheck
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.settings import Settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics import helpers
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope

NAME = 'Key-value store'
"""The runtime asks for it."""

runtime = learning_observer
SWITCH = 'kvs_plugin'


class RuntimeStartupCheck(StartupCheck, learning_observer.prestartup.StartupCheck):  # type: ignore[misc]
    """A ``StartupCheck`` that the runtime takes for one of its own."""

    def __init__(self, text: str, problems: Iterable[object] = ()) -> None:
        # The runtime prints an error and then its first argument: the text would be there twice.
        super().__init__(problems=tuple(problems))
        self.text = text

    def __str__(self) -> str:
        return self.text


class Router(KVSRouter):
    """Our router for whoever builds one by the runtime's name for it."""

    def __init__(self, default: Any = None, items: Any = None) -> None:
        try:
            super().__init__(default, items)
        except StartupCheck as failure:
            raise RuntimeStartupCheck(str(failure), failure.problems) from None


# The start-up check


def kvs_startup_check() -> bool:
    """Check the runtime's settings, fill ``KVS`` from them, and make it the runtime's. May run again.

    Every check that was registered with :mod:`learning_observer_kvs.prestartup` runs, and every init function.

    Raises:
        RuntimeStartupCheck: with every fault, its place and its cure.
    """
    try:
        if not _wanted():
            _give_back()
            return bool(runtime.kvs.kvs_startup_check())
        loaded = _settings()
        if loaded != settings.settings or runtime.kvs.KVS is not KVS:
            settings.load_settings(loaded)
            # Not in this thread: in a notebook its loop is running.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _start()).result()
    except StartupCheck as failure:
        raise RuntimeStartupCheck(str(failure), failure.problems) from None
    runtime.kvs.KVS = KVS
    return True


async def _start() -> None:
    try:
        await prestartup.run_startup_checks_and_init()
    finally:
        await KVS.close()  # what was opened in this loop; the server has its own


def _wanted() -> bool:
    loaded = runtime.settings.settings or {}
    wanted = loaded.get(SWITCH, True)
    if not isinstance(wanted, bool):
        raise StartupCheck(f'{SWITCH} is {wanted!r}. Write true, or false to leave the store to the runtime.')
    return wanted


def _settings() -> Settings:
    """The runtime's settings with their places. Rulesets of PMSS come before its file.

    Settings that were given as a dictionary come before the rulesets, of which only ``redis_connection`` counts then.
    """
    loaded = settings.read_settings(runtime.settings.settings or {})
    rulesets, file = runtime.settings.pmss_settings, getattr(runtime.settings.args, 'config_file', None)
    if file is not None and os.path.exists(file) and settings.read_settings(file) == loaded:
        if rulesets is None:
            return settings.read_settings(file)
        read = [layer for layer in pmss_source.read_object(rulesets) if isinstance(layer, str)]
        among_them = any(os.path.samefile(name, file) for name in read)
        return settings.read_settings(rulesets if among_them else [rulesets, file])
    if rulesets is not None:
        said, given = (found.get('redis_connection') or {} for found in (settings.read_settings(rulesets), loaded))
        if isinstance(said, Mapping) and isinstance(given, Mapping):
            loaded['redis_connection'] = {**said, **given}
    return loaded


# Reducers


def kvs_pipeline(
    null_state: Any = None,
    scope: Any = None,
    module_override: str | None = None,
    qualname_override: str | None = None,
) -> Callable[[Any], Any]:
    """The runtime's decorator, with our stores behind it; arguments are the runtime's."""
    if scope is None:
        scope = runtime.stream_analytics.helpers.Scope([runtime.stream_analytics.helpers.KeyField.STUDENT])

    def decorator(func: Any) -> Any:
        made = _runtimes_own['kvs_pipeline'](null_state, scope, module_override, qualname_override)(func)
        return folded(made, func, null_state, scope)

    return decorator


def folded(made: Any, func: Any, null_state: Any, scope: Iterable[Any]) -> Any:
    """A pipeline that folds events by :meth:`Store.fold`: in order, none lost, both states in one commit.

    It is the pipeline ``made`` by the runtime itself, unchanged, where folding could change what its author relies on:
    a scope with another field than the student and fields of the event, or a null state that JSON cannot hold. It
    also hands over to that one, connection by connection, where the default store is none of ours.

    As in the runtime, a state stored as ``null`` counts as none: the reducer is given the null state. And of two keys
    that JSON writes alike, such as ``1`` and ``'1'``, the last stays: reducers that keep numbers as keys rely on it.
    """

    @functools.wraps(func)
    async def reducer(event: Any, state: Any) -> Any:
        return await func(event, copy.deepcopy(null_state) if state is None else state)

    @functools.wraps(func)
    async def lenient(event: Any, state: Any) -> Any:
        return _as_json_reads_it(await reducer(event, state))

    try:
        fields = Scope(map(_field, scope))
        ours, again = (helpers.kvs_pipeline(null_state, fields)(function) for function in (reducer, lenient))
    except (KVSError, AttributeError):
        return made

    @functools.wraps(made)
    async def pipeline(metadata: Any = None) -> Any:
        router = runtime.kvs.KVS
        if not isinstance(router, KVSRouter) or not isinstance(router(), Store):
            return await made(metadata)
        strict, as_before = await ours(metadata, router=router), await again(metadata, router=router)

        async def process_event(event: Any, event_fields: Any = None) -> Any:
            try:
                return await strict(event, event_fields)
            except InvalidValue:  # nothing was changed
                return await as_before(event, event_fields)

        return process_event

    pipeline.folded = True  # type: ignore[attr-defined]
    return pipeline


def _as_json_reads_it(results: Any) -> Any:
    try:
        return tuple(json.loads(json.dumps(result)) for result in results)
    except (TypeError, ValueError):
        return results  # no JSON at all: the store says so


def _field(field: Any) -> KeyField | EventField:
    """Our field for one of the runtime's; an ``AttributeError`` if there is none."""
    if hasattr(field, 'event'):
        return EventField(field.event)
    found: KeyField = getattr(KeyField, field.name)
    return found


def fold_reducers() -> None:
    """Fold the reducers of all modules that are loaded, also of those that were loaded before this one."""
    for entry in runtime.module_loader.REDUCERS:
        made = entry['function']
        parts = _parts_of(made)
        if parts is not None:
            entry['function'] = folded(made, parts['func'], parts['null_state'], parts['scope'])


def _parts_of(made: Any) -> dict[str, Any] | None:
    """What the runtime's decorator was given, taken from a function it made; ``None`` for any other function."""
    maker = _runtimes_own['kvs_pipeline']
    if not isinstance(made, FunctionType) or made.__code__ not in _codes_within(maker.__code__):
        return None
    cells = zip(made.__code__.co_freevars, made.__closure__ or (), strict=True)
    parts = {name: cell.cell_contents for name, cell in cells}
    return parts if {'func', 'null_state', 'scope'} <= parts.keys() else None


def _codes_within(code: CodeType) -> list[CodeType]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return inner + [deeper for one in inner for deeper in _codes_within(one)]


def init_stream_analytics() -> None:
    """The runtime's ``stream_analytics.init``, where it takes up the reducers of all modules, folded."""
    fold_reducers()
    _runtimes_own['init']()


# The server


def register_debug_routes(app: web.Application) -> None:
    """The runtime's debug routes, and ours for its administrators; the application closes the stores when it ends."""
    _runtimes_own['register_debug_routes'](app)
    plugin.attach(app)
    debug.Pages(app, KVS).open(may_look, settings.settings)

    async def close(app: web.Application) -> None:
        await KVS.close()

    app.on_cleanup.append(close)


async def may_look(request: web.Request, action: str, store: str, key: str | None) -> bool:
    """Whether the runtime takes the asker for an administrator; it sends others to its log-in page."""

    async def let_in(request: web.Request) -> bool:
        return True

    let: Callable[[web.Request], Awaitable[bool]] = runtime.auth.admin(let_in)
    return await let(request)


# Taking over


_runtimes_own: dict[str, Any] = {}


def _places() -> list[tuple[Any, str, Any]]:
    """What is replaced: the object, the name in it, what stands there instead."""
    its = runtime.stream_analytics.helpers
    return [
        (runtime.kvs, 'KVSRouter', Router),
        (runtime.kvs, 'kvs_startup_check', kvs_startup_check),
        (its, 'kvs_pipeline', kvs_pipeline),
        (its, 'student_event_reducer', functools.partial(kvs_pipeline, scope=its.Scope([its.KeyField.STUDENT]))),
        (its, 'make_key', helpers.make_key),
        (runtime.stream_analytics, 'init', init_stream_analytics),
        (runtime.routes, 'register_debug_routes', register_debug_routes),
    ]


def _take_over() -> None:
    for holder, name, ours in _places():
        _runtimes_own[name] = getattr(holder, name)
        setattr(holder, name, ours)
    _exchange_check(_runtimes_own['kvs_startup_check'], kvs_startup_check)


def _give_back() -> None:
    for holder, name, _ in _places():
        setattr(holder, name, _runtimes_own[name])
    _exchange_check(kvs_startup_check, _runtimes_own['kvs_startup_check'])


def _exchange_check(old: Callable[[], bool], new: Callable[[], bool]) -> None:
    """In its place among the checks: after the modules are loaded, before the cache takes its store."""
    checks = runtime.prestartup.STARTUP_CHECKS
    checks[checks.index(old)] = new


def _catch_up() -> None:
    """Do what the runtime did before this module was loaded."""
    try:
        runtime.kvs.kvs_startup_check()
    except BaseException:
        _give_back()
        raise
    runtime.cache.connect_to_memoization_kvs()
    if runtime.stream_analytics.REDUCER_MODULES is not None:
        runtime.stream_analytics.init()


if (runtime.settings.settings or {}).get(SWITCH, True) is not False:
    _take_over()
    if runtime.kvs.KVS is not None:
        _catch_up()
