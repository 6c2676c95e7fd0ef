"""What dashboards ask of a store: the states of a class, found and read by reducer, student and document.

A store knows keys; what they mean for reducers and students is known here.

    rows = await queries.table(store, [count_words], students)
    async for student in queries.students(store):
        …
"""

from __future__ import annotations

from learning_observer_kvs.queries.changes import StateChange, changes
from learning_observer_kvs.queries.find import (
    State,
    documents,
    reducers,
    states_by,
    states_of,
    students,
    students_of,
)
from learning_observer_kvs.queries.keys import keys
from learning_observer_kvs.queries.paths import SelectFields
from learning_observer_kvs.queries.remove import Removed, remove_states
from learning_observer_kvs.queries.select import select
from learning_observer_kvs.queries.table import Cell, Row, table
from learning_observer_kvs.queries.watch import watch

__all__ = [
    'Cell',
    'Removed',
    'Row',
    'SelectFields',
    'State',
    'StateChange',
    'changes',
    'documents',
    'keys',
    'reducers',
    'remove_states',
    'select',
    'states_by',
    'states_of',
    'students',
    'students_of',
    'table',
    'watch',
]
