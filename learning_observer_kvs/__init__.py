"""The key-value store of Learning Observer, as an aiohttp server plugin.

In a server:

    app = web.Application()
    learning_observer_kvs.setup(app, 'creds.yaml', authorize=is_admin)

    async def handler(request):
        store = request.config_dict[learning_observer_kvs.KVS_KEY]()    # the default store
        await store.set('greeting', {'text': 'hello'})
        return web.json_response(await store['greeting'])

In a script:

    async with KVSRouter.from_settings('creds.yaml') as router:
        print(await router().keys())

``KVS`` is the router of the process, filled from the settings at start-up: ``KVS()`` is its default store,
``KVS.<name>()`` the store of that name. Reducers are made with the decorators in
``learning_observer_kvs.stream_analytics.helpers``. Every error is a ``KVSError``; see ``learning_observer_kvs.errors``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from learning_observer_kvs._version import __version__
from learning_observer_kvs.errors import (
    Conflict,
    CorruptValue,
    CrossSlot,
    DumpFileError,
    EventFileError,
    ForeignKeys,
    InvalidKey,
    InvalidValue,
    KVSError,
    KVSNotConfigured,
    Overloaded,
    ReducerError,
    ScopeFieldError,
    StartupCheck,
    StartupFailed,
    StoreMissing,
    StoreUnavailable,
    Undecided,
    UnknownStudent,
    WriteUnclear,
)
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.memoization import memoize
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.types import MISSING

if TYPE_CHECKING:
    from learning_observer_kvs.collector import calm_collector
    from learning_observer_kvs.plugin import AUTHORIZE_KEY, KVS_KEY, setup, startup_hook

__all__ = [
    'AUTHORIZE_KEY',
    'KVS',
    'KVS_KEY',
    'MISSING',
    'Conflict',
    'CorruptValue',
    'CrossSlot',
    'DumpFileError',
    'EventFileError',
    'ForeignKeys',
    'InvalidKey',
    'InvalidValue',
    'KVSError',
    'KVSNotConfigured',
    'KVSRouter',
    'Overloaded',
    'ReducerError',
    'ScopeFieldError',
    'StartupCheck',
    'StartupFailed',
    'Store',
    'StoreMissing',
    'StoreUnavailable',
    'Undecided',
    'UnknownStudent',
    'WriteUnclear',
    '__version__',
    'calm_collector',
    'memoize',
    'setup',
    'startup_hook',
]

_OF_THE_PLUGIN = ('AUTHORIZE_KEY', 'KVS_KEY', 'setup', 'startup_hook')


def __getattr__(name: str) -> Any:
    """Import the plugin when one of its names is used: aiohttp takes longer to import than scripts and commands run."""
    if name == 'calm_collector':
        return importlib.import_module('learning_observer_kvs.collector').calm_collector
    if name in _OF_THE_PLUGIN:
        return getattr(importlib.import_module('learning_observer_kvs.plugin'), name)
    if name == 'plugin':
        return importlib.import_module('learning_observer_kvs.plugin')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *_OF_THE_PLUGIN, 'calm_collector'})
