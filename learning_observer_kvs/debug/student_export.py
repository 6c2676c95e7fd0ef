"""Everything about one student as a file: what ``lo-kvs export-student`` writes, masked, and without study logs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from learning_observer_kvs.config.redaction import REDACTED
from learning_observer_kvs.debug.answering import FORBIDDEN, Answering
from learning_observer_kvs.debug.answers import HTML, Failure, File, Parameters, wants_html
from learning_observer_kvs.debug.masking import Mask
from learning_observer_kvs.debug.offload.frames import in_chunks
from learning_observer_kvs.debug.parameters import BadParameters, text_in
from learning_observer_kvs.debug.views import MAX_VALUE_BYTES
from learning_observer_kvs.identifiers import Ids
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.privacy.exporting import Collected, Export, collect, document, exported
from learning_observer_kvs.privacy.page import page
from learning_observer_kvs.privacy.search import Compute, size_of

EXPORT_SECONDS = 60.0
"""How long an export may take: all values of all stores are read for it. The command has no bound."""

STUDY_LOGS = 'Study logs: "lo-kvs export-student" searches them, too.'


class ExportPages(Answering):
    """The handler of exports; one is made at a time."""

    _is_exporting = False

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Serve everything about a student, as a file to save.

        Args:
            request: ``GET /debug/kvs/stores/export?student=``; an HTML page for browsers, JSON for programs.

        Returns:
            What :mod:`~learning_observer_kvs.privacy.exporting` makes, or an error.
        """
        return await self._answer(request, 'export', self._export)

    async def _export(self, request: web.Request, query: Parameters, allowed: list[str], refused: list[str]) -> File:
        student = text_in(query, 'student')
        if not student.strip():
            raise BadParameters('student is empty; give the student to look for.')
        if not allowed:
            raise Failure(403, FORBIDDEN)
        if self._is_exporting:
            raise Failure(503, 'Another export is being made. Try again in a minute.')
        self._is_exporting = True

        async def compute(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
            def has_gone() -> bool:
                return request.transport is None

            return await self._offload.call([size], function, *arguments, has_gone=has_gone, seconds=EXPORT_SECONDS)

        try:
            async with asyncio.timeout(EXPORT_SECONDS):
                counts, chunks = await made(
                    self._router, allowed, student, refused, self._mask, wants_html(request, query), compute
                )
        except TimeoutError:
            raise Failure(
                503,
                f'The export takes longer than {EXPORT_SECONDS:g} s, because there are too many values to search. '
                '"lo-kvs export-student" has no such bound.',
            ) from None
        finally:
            self._is_exporting = False
        self._note(request, 'exported', student=student, **counts, stores=allowed)
        content_type, ending = (HTML, 'html') if wants_html(request, query) else ('application/json', 'json')
        return File(content_type, lambda: chunks, f'student-data-{student}.{ending}')


async def made(
    router: KVSRouter,
    names: Sequence[str],
    student: str,
    refused: Iterable[str],
    mask: Mask,
    as_html: bool,
    compute: Compute,
) -> tuple[dict[str, int], list[bytes]]:
    """Collect everything about a student, with what was not searched.

    Args:
        router: the stores.
        names: the stores that are searched.
        student: the student's id.
        refused: the stores that the viewer may not export from.
        mask: what is not shown.
        as_html: whether it is a page for people.
        compute: calls what takes long.

    Returns:
        How many states and entries there are; the file in pieces.

    Raises:
        StoreUnavailable, Overloaded, EventFileError: something cannot be searched.
    """
    stores = {name: router[name] for name in names}
    folders = {store.failed_events: None for store in stores.values()}
    not_searched = [*(f'Store {name}: you may not export from it.' for name in refused), STUDY_LOGS]
    found = await collect(
        stores,
        await compute(len(student), Ids, (student,)),
        folders=folders,
        not_reached=not_searched,
        most_bytes=MAX_VALUE_BYTES,
        compute=compute,
    )
    size = sum(len(piece.key) + len(piece.text) for piece in found.pieces)
    files = await asyncio.to_thread(lambda: sum(size_of(Path(path)) for path in found.files))
    result: tuple[dict[str, int], list[bytes]] = await compute(size + files, composed, found, mask, as_html)
    return result


def composed(found: Collected, mask: Mask, as_html: bool) -> tuple[dict[str, int], list[bytes]]:
    """Return an export as a file. To be called in a thread, or in another process.

    Args:
        found: what was collected.
        mask: what is not shown.
        as_html: whether it is a page for people.

    Returns:
        How many states and entries there are; the file in pieces.

    Raises:
        EventFileError: a file cannot be read.
    """
    export = masked(exported(found), mask)
    counts = {'states': len(export.states), 'entries': len(export.entries)}
    return counts, in_chunks(page(export) if as_html else document(export))


def masked(found: Export, mask: Mask) -> Export:
    """Mask an export as the pages are.

    Args:
        found: the data, which is changed.
        mask: what is not shown.

    Returns:
        The data.
    """
    for state in found.states:
        key = ','.join([state['reducer'], *(f'{name}:{value}' for name, value in state['fields'].items())])
        state['value'] = _masked(state['value'], mask, key)
    for entry in found.entries:
        entry['value'] = _masked(entry['value'], mask, entry['key'], entry['path'])
    found.events = {path: mask.inside(events) for path, events in found.events.items()}
    return found


def _masked(value: Any, mask: Mask, *names: str) -> Any:
    return REDACTED if value is not None and any(map(mask.hides, names)) else mask.inside(value)
