"""A calmer garbage collector, for a server whose modules are loaded.

    app.cleanup_ctx.append(learning_observer_kvs.calm_collector)

Python's collector looks at every object of the process as soon as a few of those of the last events have outlived two
collections. In a Learning Observer server, whose modules are some 300,000 objects, each time holds up every student
for a quarter of a second.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

from aiohttp import web

DEFAULT_THRESHOLDS = (700, 2000)
"""Python's own thresholds of the youngest generation: up to 3.12, and from 3.13 on."""

FROZEN_BY_PYTHON = 1000
"""Objects that Python itself may have frozen: 3.12 starts with 375. One that freezes has several thousand."""

CALM_THRESHOLD = 5000
"""New objects after which the youngest generation is collected: a pause of up to 4 ms."""


async def calm_collector(app: web.Application) -> AsyncIterator[None]:
    """Have the garbage collector leave out what is there when the server starts, and run less often, until it stops.

    Args:
        app: the application; what contexts before this one made at the start is left out, too.
    """
    thresholds = gc.get_threshold()
    if not calm():
        yield
        return
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def calm() -> bool:
    """Have the garbage collector leave out what is there by now, and run less often.

    Returns:
        ``False`` in a process that has turned the collector off, changed its thresholds or frozen objects: it has
        decided for itself, and is left as it is.
    """
    youngest, *older = gc.get_threshold()
    is_frozen = gc.get_freeze_count() > FROZEN_BY_PYTHON
    if youngest not in DEFAULT_THRESHOLDS or not gc.isenabled() or is_frozen:
        return False
    gc.collect()  # garbage that is frozen stays for ever
    gc.freeze()
    gc.set_threshold(CALM_THRESHOLD, *older)
    return True
