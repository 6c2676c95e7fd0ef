"""Many reducers, one pass: an event goes through all reducers whose scope it has, in one batch of commits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.kvs import KVS, KVSRouter
from learning_observer_kvs.reducers import worker_of
from learning_observer_kvs.stream_analytics.helpers import Connection, Pipeline


async def event_pipeline(
    reducers: Sequence[Pipeline], metadata: Mapping[str, Any] | None = None, *, router: KVSRouter = KVS
) -> EventPipeline:
    """Begin a connection: return what takes each of its events through many reducers in one pass.

    Awaiting the reducers one after the other costs a round trip for each; here the commits of all of them travel
    together, and the caller is woken once.

    Args:
        reducers: decorated reducers.
        metadata: the metadata of the connection, as for each :class:`~.helpers.Pipeline`.
        router: the router whose default store keeps the states; by default ``KVS``, the router of the settings.

    Returns:
        The pipeline; await it with each event of the connection, one after the other.

    Raises:
        KVSNotConfigured: the router has no default store.
    """
    return EventPipeline([await reducer(metadata, router=router) for reducer in reducers], router)
