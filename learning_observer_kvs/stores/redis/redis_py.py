"""redis-py, imported when it is used: that takes as long as a command on another type of store runs.

redis_py.exceptions.ConnectionError      # of the package ``redis``, after the import
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis import asyncio, crc, exceptions

__all__ = ['asyncio', 'crc', 'exceptions']


def __getattr__(name: str) -> Any:
    """Import a module of redis-py; the next use finds it here.

    Args:
        name: the module's name in the package ``redis``.
    """
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = globals()[name] = importlib.import_module(f'redis.{name}')
    return module
