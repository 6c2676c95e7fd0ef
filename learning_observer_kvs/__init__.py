"""The key-value store of Learning Observer, as an aiohttp server plugin."""

from learning_observer_kvs._version import __version__
from learning_observer_kvs.kvs import KVS
from learning_observer_kvs.plugin import AUTHORIZE_KEY, KVS_KEY, setup, startup_hook

__all__ = ['AUTHORIZE_KEY', 'KVS', 'KVS_KEY', '__version__', 'setup', 'startup_hook']
