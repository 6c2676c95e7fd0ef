"""The aiohttp plugin: start-up checks, ``app['kvs']``, debug routes, clean-up.

    app = web.Application()
    learning_observer_kvs.setup(app, 'creds.yaml', authorize=is_admin)

or, where the program loads its settings itself:

    settings.load_settings('creds.yaml')
    app.on_startup.append(learning_observer_kvs.startup_hook)
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from learning_observer_kvs import debug, settings
from learning_observer_kvs.config.layers import option_in
from learning_observer_kvs.debug.access import Authorize
from learning_observer_kvs.errors import StartupCheck, StartupFailed
from learning_observer_kvs.kvs import KVS, KVSRouter, check_live, checked, kvs_live_check, kvs_startup_check
from learning_observer_kvs.prestartup import Hook, run_startup_checks_and_init
from learning_observer_kvs.problems import Problem, report

KVS_KEY = web.AppKey('learning_observer_kvs', KVSRouter)
"""The key of the router in an application: ``app[KVS_KEY]`` is ``app['kvs']``, but typed."""

AUTHORIZE_KEY: web.AppKey[Authorize] = web.AppKey('learning_observer_kvs_authorize')
"""The key of the function that decides who may read ``/debug/kvs``, for applications with :func:`startup_hook`."""


def setup(
    app: web.Application,
    config: settings.Source | None = None,
    *,
    authorize: Authorize | None = None,
    router: KVSRouter = KVS,
) -> None:
    """Open the stores when an application starts, and close them when it stops.

    At start-up the settings are loaded and every registered check runs. Contexts and start-up handlers that are added
    after this call can use the stores; handlers find them in ``request.config_dict['kvs']``. If the configuration is
    wrong, the start raises ``StartupFailed``, which ends ``web.run_app`` with a report and exit status 1.

    Applications that run at the same time share a router if their settings are equal; the last one closes it. With
    other settings the start fails, unless the application has a router of its own.

    Args:
        app: the application, before it starts.
        config: as for :func:`~learning_observer_kvs.settings.load_settings`; ``None`` if they are loaded already.
        authorize: ``authorize(request, action, store, key)``, a plain or coroutine function that decides who may read
            ``/debug/kvs`` (:data:`~learning_observer_kvs.debug.access.Authorize`). Without it the pages are served in
            ``run_mode: dev`` only, to this machine only.
        router: a router of its own, which ``config`` fills, or which the program has filled if that is ``None``; the
            settings of the program are left alone. By default the program's, ``KVS``.

    Raises:
        RuntimeError: the application has the stores already.
    """
    attach(app, router)
    if authorize is not None:
        app[AUTHORIZE_KEY] = authorize
    pages = debug.Pages(app, router)

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        try:
            await _start(app, config, pages, router)
            yield
        finally:
            await leave(app)

    app.cleanup_ctx.append(lifetime)


async def startup_hook(app: web.Application) -> None:
    """Do what :func:`setup` does, as a start-up handler: ``app.on_startup.append(startup_hook)``.

    The settings must be loaded before. Who may read ``/debug/kvs`` is decided by the function ``app[AUTHORIZE_KEY]``,
    or by the one that ``kvs_debug: {authorize: 'module:function'}`` in the settings names.

    Args:
        app: the application that is starting.

    Raises:
        RuntimeError: the application has the stores already, or is mounted below another one.
        StartupFailed: the configuration is wrong, or a server that it names cannot be used; or another application is
            running with other settings.
    """
    attach(app)
    try:
        pages = debug.Pages(app, KVS)
    except RuntimeError:
        raise RuntimeError(
            'startup_hook is for the outermost application. For one that is mounted below another, call '
            'learning_observer_kvs.setup(app, ...) before it is mounted.'
        ) from None
    try:
        await _start(app, None, pages, KVS)
    except BaseException:
        await leave(app)
        raise
    app.on_cleanup.append(leave)


def attach(app: web.Application, router: KVSRouter = KVS) -> None:
    """Make the stores available to handlers as ``app['kvs']`` and ``app[KVS_KEY]``.

    Args:
        app: the application.
        router: its stores.

    Raises:
        RuntimeError: it has them already.
    """
    if KVS_KEY in app:
        raise RuntimeError(
            'This application has the key-value store already: call setup(), or add startup_hook, only once.'
        )
    app[KVS_KEY] = router
    with warnings.catch_warnings():
        # The documented name is a string; aiohttp warns about those when they are set.
        warnings.simplefilter('ignore', web.NotAppKeyWarning)
        app['kvs'] = router


async def join(app: web.Application) -> None:
    """Note that an application with the stores starts to run; the settings are those of the program.

    Args:
        app: the application.

    Raises:
        StartupFailed: another application is running with other settings.
    """
    try:
        app[KVS_KEY].applications.join(app, settings.settings)
    except StartupCheck as failure:
        raise _failed(failure) from failure


async def leave(app: web.Application) -> None:
    """Close the stores when an application stops, unless another one uses them.

    Args:
        app: the application.
    """
    router = app[KVS_KEY]
    if router.applications.leave(app):
        await router.close()


async def _start(app: web.Application, config: settings.Source | None, pages: debug.Pages, router: KVSRouter) -> None:
    try:
        loaded = settings.settings if config is None else settings.read_settings(config)
        is_shared = router.applications.join(app, loaded)
        if router is KVS and config is not None:
            settings.load_settings(loaded)
        is_filled = is_shared or (router is not KVS and config is None)
        await run_startup_checks_and_init(_checks_of(router, loaded, is_filled))
        authorize = app.get(AUTHORIZE_KEY) or _authorize_of(loaded)
    except StartupCheck as failure:
        raise _failed(failure) from failure
    pages.open(authorize, loaded)


def _checks_of(router: KVSRouter, loaded: settings.Settings, is_filled: bool) -> dict[Hook, Hook]:
    """The checks of an application's router, in place of those that fill and check the program's."""

    def startup_check() -> None:
        if not is_filled:
            router.configure(checked(loaded))

    return {kvs_startup_check: startup_check, kvs_live_check: functools.partial(check_live, router)}


def _failed(failure: StartupCheck) -> StartupFailed:
    print(failure, file=sys.stderr)
    return StartupFailed(str(failure), problems=failure.problems)


def _authorize_of(configuration: settings.Settings) -> Authorize | None:
    """The function that ``kvs_debug.authorize`` names, as ``module:function``."""
    name = option_in(configuration, 'kvs_debug', 'authorize')
    if name is None:
        return None
    try:
        module, _, function = str(name).partition(':')
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        message = f'is {name!r}, which cannot be imported: {error}'
        location = configuration.location('kvs_debug', 'authorize')
        hint = 'Write a function of a module on the path as package.module:function.'
        problem = Problem('KVS.E015', location, 'kvs_debug.authorize', message, hint)
        raise StartupCheck(report([problem]), problems=[problem]) from None
    return found
