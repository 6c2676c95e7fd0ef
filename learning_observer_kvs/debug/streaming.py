"""Answering a request with a stream that says when something changes, or with an error as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aiohttp import web

from learning_observer_kvs.debug import parameters, views
from learning_observer_kvs.debug.answering import Answering, noted
from learning_observer_kvs.debug.answers import Parameters, headers_of
from learning_observer_kvs.debug.json_text import as_json
from learning_observer_kvs.debug.live import Streams
from learning_observer_kvs.debug.rendering import Templates
from learning_observer_kvs.debug.sending import send
from learning_observer_kvs.kvs import KVSRouter

Watched = tuple[Collection[str], Callable[[str], bool]]
"""What keys begin with, and whether one that begins so is meant."""


class Streaming(Answering):
    """Answers requests with streams too.

    Args:
        router: the stores that the pages show.
        templates: the pages as HTML.
    """

    def __init__(self, router: KVSRouter, templates: Templates) -> None:
        super().__init__(router, templates)
        self._streams = Streams(self._pace.is_busy)

    async def _stream(
        self, request: web.Request, action: str, watched: Callable[[Parameters], Watched]
    ) -> web.StreamResponse:
        """Serve a stream, if the request may do an action."""
        try:
            query = parameters.in_url(request)
            await self._permitted(request, action, query)
            prefixes, is_meant = watched(query)
            store, headers = views.store_of(self._router, request.match_info['store']), headers_of('text/event-stream')
            return await self._streams.serve(request, store, prefixes, is_meant, headers)
        except web.HTTPException:
            raise
        except Exception as error:
            status, text = noted(request, error)
            busy = {'Retry-After': '10'} if status == 503 else {}
            return await send(
                request, [as_json({'error': text})], status=status, headers=headers_of('application/json') | busy
            )
