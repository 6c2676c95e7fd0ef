"""The integration into a real Learning Observer, which imports this module by the entry point group ``lo_modules``.

Importing it replaces the runtime's stores by those of this package, without a change to the runtime's source:

- its ``kvs_startup_check`` and ``KVSRouter`` are ours, so that ``learning_observer.kvs.KVS`` is our ``KVS``;
- reducers that its decorators made are run by our reducer workers (see :func:`replacement_of` for which), all those of
  an event in one pass (see :func:`~learning_observer_kvs.module_pipeline.in_one_pass`);
- functions that its ``async_memoization`` decorates from then on look for one key (:mod:`.module_memoization`);
- ``/debug/kvs`` is served to its administrators, and its application closes the stores when it ends;
- the garbage collector leaves out what has been loaded (:mod:`.collector`), unless ``kvs_calm_collector: false``.

``kvs_plugin: false`` in its settings leaves the runtime as it was. In this module "the runtime" is the package
``learning_observer``; "ours" are the objects of this package.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, FunctionType
from typing import Any

import learning_observer.auth
import learning_observer.cache
import learning_observer.incoming_student_event
import learning_observer.kvs
import learning_observer.module_loader
import learning_observer.prestartup
import learning_observer.routes
import learning_observer.settings
import learning_observer.stream_analytics
import learning_observer.stream_analytics.helpers
from aiohttp import web

from learning_observer_kvs import debug, module_memoization, plugin, prestartup, settings
from learning_observer_kvs.collector import calm_collector
from learning_observer_kvs.config import pmss_source
from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.errors import KVSError, StartupCheck
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.module_pipeline import ProcessRuntimeEvent, describe_reducers, in_one_pass
from learning_observer_kvs.problems import announce, raise_on_errors
from learning_observer_kvs.reducers.driving import may_wait, without_await
from learning_observer_kvs.replay import listed_reducers
from learning_observer_kvs.settings import Settings
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics import helpers
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope
from learning_observer_kvs.stream_analytics.registry import add_listing, shared_names

NAME = 'Key-value store'
"""The module's name, which the runtime requires of every module that it loads."""

SWITCH = 'kvs_plugin'
"""The setting that turns the integration off."""

COLLECTOR = 'kvs_calm_collector'
"""The setting that leaves the garbage collector as it was."""

runtime = learning_observer


class RuntimeStartupCheck(StartupCheck, learning_observer.prestartup.StartupCheck):  # type: ignore[misc]
    """A ``StartupCheck`` that the runtime catches, because it is also one of its own.

    Args:
        text: the whole text for people.
        problems: the problems behind it.
    """

    def __init__(self, text: str, problems: Iterable[object] = ()) -> None:
        # The runtime prints an error and then its first argument: the text would be printed twice.
        super().__init__(problems=tuple(problems))
        self.text = text

    def __str__(self) -> str:
        return self.text


class Router(KVSRouter):
    """Our router under the runtime's name, with the runtime's parameters.

    Args:
        default: the default store, or a callable without arguments that makes it.
        items: what ``kvs:`` contains in the settings: a mapping, or pairs ``(name, options)``.

    Raises:
        RuntimeStartupCheck: the items are not a valid configuration.
    """

    def __init__(self, default: Any = None, items: Any = None) -> None:
        try:
            super().__init__(default, items)
        except StartupCheck as failure:
            raise RuntimeStartupCheck(str(failure), failure.problems) from None


# The start-up check


def kvs_startup_check() -> bool:
    """Check the runtime's settings, fill ``KVS`` from them, and make it the runtime's router. May run again.

    Every check that was registered with :mod:`learning_observer_kvs.prestartup` runs, and every init function.

    Returns:
        ``True``; with ``kvs_plugin: false`` what the runtime's own check returns.

    Raises:
        RuntimeStartupCheck: every problem of the settings, with its location and a hint.
    """
    try:
        _is_on(COLLECTOR, 'leave the garbage collector as it is')
        if not _is_on(SWITCH, 'use the stores of the runtime'):
            _restore_runtime()
            return bool(runtime.kvs.kvs_startup_check())
        loaded = _settings()
        _check_names()
        if loaded != settings.settings or runtime.kvs.KVS is not KVS or KVS.applications.ended:
            KVS.applications.check(loaded)
            settings.load_settings(loaded)
            # In another thread, because this thread's loop may be running, as in a notebook.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _run_checks()).result()
    except StartupCheck as failure:
        raise RuntimeStartupCheck(str(failure), failure.problems) from None
    runtime.kvs.KVS = KVS
    return True


def prepare_replay(paths: Sequence[str]) -> None:
    """Load what the runtime's reducers need in a process that is not its server; ``lo-kvs replay`` calls it.

    Args:
        paths: files of settings; the last one is the runtime's configuration file.
    """
    listed_reducers.prepare(runtime, paths)


async def _run_checks() -> None:
    try:
        await prestartup.run_startup_checks_and_init()
    finally:
        await KVS.close()  # what was opened in this loop; the server runs another one


def _is_on(switch: str, otherwise: str) -> bool:
    value = (runtime.settings.settings or {}).get(switch, True)
    if not isinstance(value, bool):
        raise StartupCheck(f'{switch} is {display_value(switch, value)}. Write true, or false to {otherwise}.')
    return value


def _settings() -> Settings:
    """The runtime's settings with their source locations. PMSS rulesets have precedence over its file.

    Settings that were given as a dictionary have precedence over the rulesets, of which only ``redis_connection`` is
    used then.
    """
    loaded = settings.read_settings(runtime.settings.settings or {})
    rulesets, file = runtime.settings.pmss_settings, getattr(runtime.settings.args, 'config_file', None)
    if file is not None and os.path.exists(file) and settings.read_settings(file) == loaded:
        if rulesets is None:
            return settings.read_settings(file)
        read = [layer for layer in pmss_source.read_object(rulesets) if isinstance(layer, str)]
        file_is_a_ruleset = any(os.path.samefile(name, file) for name in read)
        return settings.read_settings(rulesets if file_is_a_ruleset else [rulesets, file])
    if rulesets is not None:
        below, above = (each.get('redis_connection') or {} for each in (settings.read_settings(rulesets), loaded))
        if isinstance(below, Mapping) and isinstance(above, Mapping):
            loaded['redis_connection'] = {**below, **above}
    return loaded


# Reducers


def kvs_pipeline(
    null_state: Any = None,
    scope: Any = None,
    module_override: str | None = None,
    qualname_override: str | None = None,
) -> Callable[[Any], Any]:
    """Replace the runtime's decorator: what it makes keeps its state in our stores.

    Args:
        null_state: as in the runtime.
        scope: as in the runtime.
        module_override: as in the runtime.
        qualname_override: as in the runtime.

    Returns:
        A decorator.
    """
    if scope is None:
        scope = runtime.stream_analytics.helpers.Scope([runtime.stream_analytics.helpers.KeyField.STUDENT])

    def decorator(func: Any) -> Any:
        @functools.wraps(func)
        async def renamed(event: Any, state: Any) -> Any:  # the runtime's decorator renames what it is given
            return await func(event, state)

        original = _originals['kvs_pipeline'](null_state, scope, module_override, qualname_override)(renamed)
        return replacement_of(original, func, null_state, scope)

    return decorator


def replacement_of(original: Any, func: Any, null_state: Any, scope: Iterable[Any]) -> Any:
    """Return a pipeline that runs a reducer of the runtime on our stores: in order, no event lost, one commit for both.

    Two habits of the runtime are kept. A state that is stored as ``null`` counts as missing: the reducer gets the null
    state. And of two keys of an object that JSON writes alike, such as ``1`` and ``'1'``, the last one is kept:
    reducers that use numbers as keys rely on it.

    Args:
        original: the pipeline that the runtime made. Connections use it while the default store is not one of ours.
            Its name is the reducer's name in keys.
        func: the undecorated reducer.
        null_state: the state that a new key starts with.
        scope: fields, as the runtime's classes.

    Returns:
        The pipeline, with an attribute ``kvs_plugin``. An error that it raises notes which states the event did not
        reach, for the error file that the runtime writes. Where ours could not do what the reducer's author relies
        on, it is the original: the scope has a field that is neither the student nor a field of the event, or the
        null state is not a JSON value.
    """

    def begin(event: Any, state: Any) -> Any:
        return func(event, copy.deepcopy(null_state) if state is None else state)

    async def wait(event: Any, state: Any) -> Any:
        return await begin(event, state)

    reducer = functools.wraps(func)(wait if may_wait(func) else without_await(begin))

    @functools.wraps(func)
    async def lenient(event: Any, state: Any) -> Any:
        return _through_json(await reducer(event, state))

    try:
        fields = Scope(map(_field, scope))
        strict_pipeline, lenient_pipeline = (
            helpers.kvs_pipeline(null_state, fields, original.__module__, original.__qualname__)(each)
            for each in (reducer, lenient)
        )
    except (KVSError, AttributeError) as error:
        original.kvs_plugin_refusal = str(error)
        return original

    @functools.wraps(original)
    async def pipeline(metadata: Any = None, *, router: Any = None) -> Any:
        router = runtime.kvs.KVS if router is None else router
        if not isinstance(router, KVSRouter) or not isinstance(router(), Store):
            return await original(metadata)
        strictly = await strict_pipeline(metadata, router=router)
        strictly.set_listed(getattr(pipeline, 'listed', None), metadata)
        return ProcessRuntimeEvent(
            strictly,
            await lenient_pipeline(metadata, router=router),
            router(),
            lambda event: listed_reducers.keys_after(runtime, pipeline, metadata, event),
        )

    pipeline.kvs_plugin = True  # type: ignore[attr-defined]
    pipeline.scope, pipeline.null_text = fields, strict_pipeline.null_text  # type: ignore[attr-defined]
    return pipeline


def _through_json(results: Any) -> Any:
    """Both states as the standard ``json`` gives them back; of keys that it writes alike the last one is kept."""
    try:
        return tuple(json.loads(json.dumps(result)) for result in results)
    except (TypeError, ValueError):
        return results  # not JSON at all: the store raises an error that says where


def _field(field: Any) -> KeyField | EventField:
    """Our field for a field of the runtime; an ``AttributeError`` if we have none."""
    if hasattr(field, 'event'):
        return EventField(field.event)
    if field.name not in KeyField.__members__:
        raise AttributeError(f'{field} is not a field that this package knows.')
    return KeyField[field.name]


def replace_reducers() -> None:
    """Replace the pipelines of all modules that are loaded, also of those that were loaded before this one."""
    for entry in runtime.module_loader.REDUCERS:
        original = entry['function']
        arguments = _decorator_arguments(original)
        if arguments is not None:
            entry['function'] = replacement_of(original, arguments['func'], arguments['null_state'], arguments['scope'])


def _decorator_arguments(pipeline: Any) -> dict[str, Any] | None:
    """The arguments of the runtime's decorator, from the closure of what it made; ``None`` for any other function."""
    decorator = _originals['kvs_pipeline']
    if not isinstance(pipeline, FunctionType) or pipeline.__code__ not in _inner_codes(decorator.__code__):
        return None
    cells = zip(pipeline.__code__.co_freevars, pipeline.__closure__ or (), strict=True)
    arguments = {name: cell.cell_contents for name, cell in cells}
    return arguments if {'func', 'null_state', 'scope'} <= arguments.keys() else None


def _inner_codes(code: CodeType) -> list[CodeType]:
    """The code of all functions that are defined within a function."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return inner + [deeper for each in inner for deeper in _inner_codes(each)]


def init_stream_analytics() -> None:
    """Replace the runtime's ``stream_analytics.init``, which collects the reducers of all modules.

    Raises:
        RuntimeStartupCheck: two different reducers have one name and scope.
    """
    try:
        _check_names()
    except StartupCheck as failure:
        raise RuntimeStartupCheck(str(failure), failure.problems) from None
    replace_reducers()
    for line in describe_reducers(entry['function'] for entry in runtime.module_loader.REDUCERS):
        announce(line)
    _originals['init']()


def _check_names() -> None:
    """Raise a ``StartupCheck`` if two different reducers of the modules would share their states."""
    listed = (
        (
            helpers.fully_qualified_function_name(entry['function']),
            [field.name for field in entry.get('scope') or ()],
            entry['function'],
        )
        for entry in runtime.module_loader.REDUCERS
        if isinstance(entry['function'], FunctionType)
    )
    raise_on_errors(shared_names(listed))


# The server


def register_debug_routes(app: web.Application) -> None:
    """Replace the function that adds the runtime's debug routes: add ours, and what begins and ends with the server.

    Args:
        app: the runtime's application.
    """
    _originals['register_debug_routes'](app)
    plugin.attach(app)
    debug.Pages(app, KVS).open(authorize, settings.settings)
    if _is_on(COLLECTOR, 'leave the garbage collector as it is'):
        app.cleanup_ctx.append(calm_collector)
    app.on_startup.append(plugin.join)
    app.on_cleanup.append(plugin.leave)


async def authorize(request: web.Request, action: str, store: str, key: str | None) -> bool:
    """Allow the runtime's administrators to read ``/debug/kvs``.

    Args:
        request: the request.
        action: not used.
        store: not used.
        key: not used.

    Returns:
        ``True``.

    Raises:
        web.HTTPException: the user is not an administrator; the runtime redirects to its log-in page.
    """

    async def allow(request: web.Request) -> bool:
        return True

    guarded: Callable[[web.Request], Awaitable[bool]] = runtime.auth.admin(allow)
    return await guarded(request)


# Replacing


_originals: dict[str, Any] = {}
"""The runtime's objects that were replaced, by name."""


def _replacements() -> list[tuple[Any, str, Any]]:
    """What is replaced: the runtime's module, the name in it, our object."""
    its, its_events = runtime.stream_analytics.helpers, runtime.incoming_student_event
    return [
        (runtime.kvs, 'KVSRouter', Router),
        (runtime.kvs, 'kvs_startup_check', kvs_startup_check),
        (its, 'kvs_pipeline', kvs_pipeline),
        (its, 'student_event_reducer', functools.partial(kvs_pipeline, scope=its.Scope([its.KeyField.STUDENT]))),
        (its, 'make_key', helpers.make_key),
        (runtime.stream_analytics, 'init', init_stream_analytics),
        (its_events, 'student_event_pipeline', in_one_pass(its_events.student_event_pipeline)),
        (runtime.cache, 'async_memoization', module_memoization.replacement(runtime)),
        (runtime.routes, 'register_debug_routes', register_debug_routes),
    ]


def _replace_in_runtime() -> None:
    for module, name, ours in _replacements():
        _originals[name] = getattr(module, name)
        setattr(module, name, ours)
    _replace_check(_originals['kvs_startup_check'], kvs_startup_check)


def _restore_runtime() -> None:
    for module, name, _ in _replacements():
        setattr(module, name, _originals[name])
    _replace_check(kvs_startup_check, _originals['kvs_startup_check'])


def _replace_check(old: Callable[[], bool], new: Callable[[], bool]) -> None:
    """At the same position among the checks: after the modules are loaded, before the cache gets its store."""
    checks = runtime.prestartup.STARTUP_CHECKS
    checks[checks.index(old)] = new


def _repeat_startup() -> None:
    """Repeat with our objects what the runtime has done at start-up before this module was loaded."""
    try:
        runtime.kvs.kvs_startup_check()
    except BaseException:
        _restore_runtime()
        raise
    runtime.cache.connect_to_memoization_kvs()
    if runtime.stream_analytics.REDUCER_MODULES is not None:
        runtime.stream_analytics.init()


add_listing(lambda: runtime.module_loader.REDUCERS)
if (runtime.settings.settings or {}).get(SWITCH, True) is not False:
    _replace_in_runtime()
    if runtime.kvs.KVS is not None:
        _repeat_startup()
