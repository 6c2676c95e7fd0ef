"""A store that is one dictionary, and a router that makes a store at each call."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from typing import Any

import learning_observer.prestartup
import learning_observer.settings

OBJECTS: dict[str, Any] = {}


class InMemoryKVS:
    """All stores of this type share their objects."""

    async def __getitem__(self, key: str) -> Any:
        return copy.deepcopy(OBJECTS.get(key))

    async def set(self, key: str, value: Any) -> None:
        """Store a value, if it is JSON."""
        OBJECTS[key] = json.loads(json.dumps(value))

    async def keys(self) -> list[str]:
        """All of them."""
        return list(OBJECTS)

    async def dump(self) -> dict[str, Any]:
        """Everything."""
        return copy.deepcopy(OBJECTS)


KVS_MAP = {'stub': InMemoryKVS}


class KVSRouter:
    """Has a function that makes a store for each name."""

    def __init__(
        self, default: Callable[[], Any] | None = None, items: Iterable[tuple[str, dict[str, Any]]] | None = None
    ) -> None:
        self._makers: dict[str, Callable[[], Any]] = {} if default is None else {'default': default}
        for name, options in items or ():
            self._makers[name] = KVS_MAP[options['type']]

    def __call__(self) -> Any:
        return self._makers['default']()

    def __getattr__(self, name: str) -> Callable[[], Any]:
        try:
            return self._makers[name]
        except KeyError:
            raise AttributeError(name) from None


KVS: Any = None


@learning_observer.prestartup.register_startup_check
def kvs_startup_check() -> bool:
    """Make the router; its class is looked up now."""
    global KVS
    try:
        KVS = KVSRouter(items=learning_observer.settings.settings['kvs'].items())
    except KeyError as error:
        raise learning_observer.prestartup.StartupCheck(f'the kvs block is wrong: {error}') from None
    return True
