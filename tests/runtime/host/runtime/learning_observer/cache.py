"""A cache for the results of slow functions, in the store ``memoization`` if there is one."""

from __future__ import annotations

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
