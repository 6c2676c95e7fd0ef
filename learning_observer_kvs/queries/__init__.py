"""What dashboards ask of a store: the states of a class, found and read by reducer, student and document.

A store knows keys; what they mean for reducers and students is known here.

    rows = await queries.table(store, [count_words], students)
    async for student in queries.students(store):
        …
"""

from __future__ import annotations

from learning_observer_kvs.queries.keys import keys
from learning_observer_kvs.queries.paths import SelectFields
from learning_observer_kvs.queries.select import select
from learning_observer_kvs.queries.table import Cell, Row, table

__all__ = ['Cell', 'Row', 'SelectFields', 'keys', 'select', 'table']
