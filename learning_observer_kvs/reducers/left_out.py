"""Events that were acknowledged, with ``flush_interval``, and did not come into a state after all.

Their callers have gone on, so what befell them is logged and counted. All but those of a state that another process
erased are kept in a file, for ``lo-kvs replay``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable, Sequence

from learning_observer_kvs import failed_events
from learning_observer_kvs.errors import StoreUnavailable, WriteUnclear
from learning_observer_kvs.reducers.batch import Event
from learning_observer_kvs.reducers.pending import Pending
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stores.keys import display_key

log = logging.getLogger('learning_observer_kvs')


class ErasedElsewhere(Exception):
    """The state that pending events stand on was removed by another process."""


class LeftOut:
    """The events of one store in one event loop that were acknowledged and left out.

    Args:
        store: the store; its ``failed_events`` is the folder of the files.

    Attributes:
        kept: how many are kept in a file.
        erased: how many were dropped because another process had erased the state they were for.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kept = 0
        self.erased = 0

    def raised(self, key: str, events: Iterable[Event]) -> None:
        """Keep those events whose reducer raised when it was run again onto what another process wrote.

        Args:
            key: the internal key.
            events: events that were acknowledged.
        """
        for event in events:
            if event.error is not None:
                event.tally.failed += 1
                self._keep(key, event, event.error)
                log.error(
                    '%s: a reducer that had accepted an event raised when it was run again onto what another process '
                    'wrote; the event is left out, and kept in %s (%s so far).',
                    display_key(key),
                    self._store.failed_events,
                    f'{self.kept:,}',
                    exc_info=event.error,
                )

    def applied(self, key: str, events: Sequence[Event]) -> None:
        """Count events of a flush whose answer was lost, and that is found to have been written.

        Args:
            key: the internal key.
            events: events that were acknowledged.
        """
        for event in events:
            event.tally.events += 1
        self.raised(key, events)

    def doubtful(self, key: str, events: Sequence[Event]) -> None:
        """Keep events of a flush whose answer was lost, where another process has written since.

        Whether it wrote onto them, or past them, cannot be found out.

        Args:
            key: the internal key.
            events: events that were acknowledged.
        """
        error = WriteUnclear('The answer was lost, and another process has written since.')
        for event in events:
            event.tally.note_failed()
            self._keep(key, event, event.error or error)
        log.error(
            '%s: %s may or may not have been written: the answer was lost, and another process has written since. '
            'They are kept in %s (%s so far).',
            display_key(key),
            _counted(len(events)),
            self._store.failed_events,
            f'{self.kept:,}',
        )

    def not_saved(self, key: str, pending: Pending) -> BaseException:
        """Keep what is pending of a key when the store is closed.

        Args:
            key: the internal key.
            pending: what could not be written in time.

        Returns:
            Why it could not: ``WriteUnclear`` if it may have been written all the same.
        """
        error = pending.error or StoreUnavailable('The store was closed before this was written.')
        if pending.unclear or not pending.is_open:
            error = WriteUnclear('The store was closed before an answer came.')
        for event in pending.batch.events:
            event.tally.note_failed()
            self._keep(key, event, event.error or error)
        log.error('%s: %s kept in %s.', display_key(key), _counted(pending.events), self._store.failed_events)
        return error

    def erased_elsewhere(self, key: str, events: Sequence[Event], left: Collection[Event]) -> None:
        """Count events that were dropped, because another process erased the state that they were for.

        Args:
            key: the internal key.
            events: events that were acknowledged.
            left: those of them that count all the same.
        """
        dropped = set(events).difference(left)
        self.erased += len(dropped)
        for event in dropped:
            event.tally.note_failed()
            event.tally.erased += 1
        log.warning(
            '%s was removed by another process: what was pending of it was dropped with it, %s (%s so far).',
            display_key(key),
            _counted(len(dropped)),
            f'{self.erased:,}',
        )

    def _keep(self, key: str, event: Event, error: BaseException) -> None:
        call = event.call
        content = call.args[0] if isinstance(call, functools.partial) and call.args else call
        _, comma, rest = key.partition(',')
        reducer = rest.partition(',')[0] if comma else key
        try:
            failed_events.record(
                content, error, reducer=reducer, keys=[key, event.external_key], folder=self._store.failed_events
            )
        except OSError as failure:
            log.error(
                '%s: an event that failed cannot be kept in %s either: %s. It was %r.',
                display_key(key),
                self._store.failed_events,
                failure,
                content,
            )
        else:
            self.kept += 1
            event.tally.kept += 1


def accepted(events: Iterable[Event]) -> list[Event]:
    """Return the events whose reducer did not raise, and count the others, which no commit counts.

    Args:
        events: events whose reducer has run.
    """
    found = []
    for event in events:
        if event.error is None:
            found.append(event)
        else:
            event.tally.events += 1
    return found


def _counted(events: int) -> str:
    return '1 event' if events == 1 else f'{events:,} events'
