"""The events of one connection through one reducer."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

from learning_observer_kvs.json_codec import JSON
from learning_observer_kvs.reducers import workers_of
from learning_observer_kvs.reducers.driving import may_wait
from learning_observer_kvs.reducers.joined import Run
from learning_observer_kvs.reducers.tally import tally_of
from learning_observer_kvs.stores.base import Store
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope
from learning_observer_kvs.stream_analytics.keys import make_key

GUEST = '[guest]'
"""The student of events that come without metadata."""

Reducer: TypeAlias = Callable[[Any, JSON], Awaitable[Any]]
"""``async def reducer(event, internal_state)``, which returns ``(internal_state, external_state)``."""


class ProcessEvent:
    """Processes the events of one connection with one reducer; a :class:`~.helpers.Pipeline` returns it.

    Args:
        func: the reducer.
        reducer_name: its name in keys.
        null_text: the JSON text of the state that a key starts from.
        scope: the fields that the state is kept by.
        metadata: the metadata of the connection.
        store: where the states are.

    Attributes:
        reducer_name: the reducer's name in keys.
        field_names: the fields of an event that the scope has.
        listed_fields: the fields of an event that a Learning Observer server lists the reducer with; ``None``: it lists
            none.
        is_unreachable: whether no event of the connection reaches the reducer in a pipeline: the scope has the student,
            and the connection names none.
        leniently: processes the event again where the reducer returned what JSON cannot hold; ``None`` for an error.
    """

    leniently: ProcessEvent | None = None
    listed_fields: Sequence[str] | None = None

    def __init__(
        self,
        func: Reducer,
        reducer_name: str,
        null_text: bytes,
        scope: Scope,
        metadata: Mapping[str, Any] | None,
        store: Store,
    ) -> None:
        self._func = func
        self._null_text = null_text
        self._may_wait = may_wait(func)
        self._store = store
        self._workers = workers_of(store)
        self._tally = tally_of(store, reducer_name)
        self.reducer_name = reducer_name
        self.field_names = [field.event for field in scope if isinstance(field, EventField)]
        self._server_fields: dict[KeyField | EventField, Any] = {}
        self.is_unreachable = False
        if KeyField.STUDENT in scope:
            student = metadata['auth']['safe_user_id'] if metadata is not None and 'auth' in metadata else GUEST
            self._server_fields[KeyField.STUDENT] = student
            self.is_unreachable = student in (GUEST, '', None)
        # Nearly all events of a connection are of one document, so the last keys are reused.
        self._values = ('None',) * len(self.field_names)
        self._keys = self._make_keys(self._values)

    def set_listed(self, listed: Mapping[str, Sequence[str]] | None, metadata: Mapping[str, Any] | None) -> None:
        """Set with which fields of an event a Learning Observer server lists the reducer, in another process than it.

        Args:
            listed: the names of the fields, by the source of connections; ``None`` if the server does not list it.
            metadata: the metadata of the connection, with its source. None of its events reaches the reducer if that is
                not listed.
        """
        if listed is not None:
            source = (metadata or {}).get('source')
            self.listed_fields = listed.get(source) if isinstance(source, str) else None
            self.is_unreachable = self.is_unreachable or self.listed_fields is None

    # It returns the coroutine that does the work: one more around it would cost as much as all of this.
    def __call__(self, event: Any, event_fields: Mapping[str, Any] | None = None) -> Coroutine[Any, Any, JSON]:
        """Run the reducer on one event, and commit both of its states; to be awaited.

        Args:
            event: the event, as the reducer gets it.
            event_fields: values by the name of an ``EventField`` of the scope; one that is missing is ``None``.

        Returns:
            The external state, as the reducer returned it; ``False`` where it declined to write one.

        Raises:
            Exception: what the reducer raised; neither state was changed, as with all but the last of these errors.
            ReducerError: the reducer did not return a pair, or sent an event to its own key.
            InvalidKey: a field's value makes a key that no store accepts.
            InvalidValue: a state that JSON cannot hold.
            CorruptValue: the stored internal state is not JSON.
            Conflict: other processes kept writing the internal state.
            Overloaded: too many events wait for this key; the event was rejected; retry later.
            StoreUnavailable: the store cannot be used; the event was not processed.
            WriteUnclear: the commit may or may not have been applied.
        """
        if self.field_names:
            try:
                self._choose_keys(event_fields)
            except Exception as error:
                return _raise(error)  # where it is awaited: the caller may have the events of others at hand
        internal_key, external_key = self._keys
        call = functools.partial(self._func, event)
        return self._workers().process(
            internal_key, external_key, call, self._null_text, None, self._may_wait, self._tally
        )

    def run(self, event: Any, event_fields: Mapping[str, Any] | None = None) -> Run:
        """Return what a worker processes for an event.

        Args:
            event: the event, as the reducer gets it.
            event_fields: values by the name of an ``EventField`` of the scope; one that is missing is ``None``.

        Raises:
            InvalidKey: a field's value makes a key that no store accepts.
        """
        if self.field_names:
            self._choose_keys(event_fields)
        call = functools.partial(self._func, event)
        return Run(*self._keys, call, self._null_text, None, self._may_wait, self._tally)

    def keys(self, event_fields: Mapping[str, Any] | None = None) -> tuple[str, str]:
        """Return the keys of the internal and the external state that an event goes to.

        Args:
            event_fields: as for the call.

        Raises:
            InvalidKey: a field's value makes a key that no store accepts.
        """
        return self._make_keys(self._values_of(event_fields))

    def _choose_keys(self, event_fields: Mapping[str, Any] | None) -> None:
        values = self._values_of(event_fields)
        if values != self._values:
            self._keys, self._values = self._make_keys(values), values

    def _values_of(self, event_fields: Mapping[str, Any] | None) -> tuple[str, ...]:
        fields = event_fields or {}
        return tuple([str(fields.get(name)) for name in self.field_names])

    def _make_keys(self, values: tuple[str, ...]) -> tuple[str, str]:
        fields = dict(self._server_fields)
        fields |= {EventField(name): value for name, value in zip(self.field_names, values, strict=True)}
        return (
            make_key(self.reducer_name, fields, KeyStateType.INTERNAL),
            make_key(self.reducer_name, fields, KeyStateType.EXTERNAL),
        )


async def _raise(error: Exception) -> JSON:
    raise error
