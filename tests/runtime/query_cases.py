"""The queries that are asked of a real server and of ours, and what counts as equal."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

ERROR = {'error', 'function', 'error_provenance', 'timestamp', 'traceback'}
"""The names in what stands for a path that leads to nothing."""


async def items(values: Iterable[Any]) -> AsyncIterator[Any]:
    """An asynchronous iterable."""
    for value in values:
        await asyncio.sleep(0)
        yield value


def arguments(documents: Mapping[str, str]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield makers of the arguments of a query for keys; the iterators among them can be used once."""
    students, docs = [*documents, 'absent'], [*documents.values(), 'no-document']
    roster = [
        {'user_id': student, 'profile': {'name': student, 'n': number}} for number, student in enumerate(students)
    ]
    sources = [
        {'user_id': student, 'doc': {'id': doc}, 'provenance': {'key': f'k{student}', 'provenance': {'from': student}}}
        for student, doc in zip(students, docs, strict=True)
    ]
    yield lambda: {}
    yield lambda: {'STUDENTS': students}
    yield lambda: {'STUDENTS': roster, 'STUDENTS_path': 'user_id'}
    yield lambda: {'STUDENTS': items(roster), 'STUDENTS_path': 'user_id'}
    yield lambda: {'STUDENTS': students[0]}
    yield lambda: {'STUDENTS': roster[0], 'STUDENTS_path': 'user_id'}
    yield lambda: {'STUDENTS': roster, 'STUDENTS_path': 'profile.missing'}
    yield lambda: {'STUDENTS': roster, 'STUDENTS_path': 'profile..n'}
    yield lambda: {'STUDENTS': None}
    yield lambda: {'STUDENTS': 17}
    yield lambda: {'students': roster, 'students_path': 'user_id'}
    yield lambda: {'students': roster}
    yield lambda: {'STUDENTS': [], 'RESOURCES': docs}
    yield lambda: {'scope_fields': {'KeyField.STUDENT': {'values': roster, 'path': 'user_id'}}}
    yield lambda: {'scope_fields': {' Student ': students[0], 'STUDENT': students[1]}}
    yield lambda: {'scope_fields': {'student': {'value': students[0]}, 'tab': 't.0'}}
    yield lambda: {'scope_fields': {'teacher': 'ada'}, 'STUDENTS': students}
    yield lambda: {'scope_fields': {'student': {'items': roster, 'value_path': 'user_id'}}, 'STUDENTS': ['other']}
    yield lambda: {'scope_fields': 'nothing', 'STUDENTS': students}
    yield lambda: {'STUDENTS': students, 'RESOURCES': docs}
    yield lambda: {'STUDENTS': students, 'RESOURCES': docs[:2]}
    yield lambda: {'STUDENTS': students[0], 'RESOURCES': docs}
    yield lambda: {'STUDENTS': students[0], 'RESOURCES': docs[0]}
    yield lambda: {'STUDENTS': items(roster), 'STUDENTS_path': 'user_id', 'RESOURCES': items(docs)}
    yield lambda: {'STUDENTS': sources, 'STUDENTS_path': 'user_id', 'RESOURCES': sources, 'RESOURCES_path': 'doc.id'}
    yield lambda: {'STUDENTS': sources, 'STUDENTS_path': 'provenance.provenance.from', 'RESOURCES': docs}
    yield lambda: {'STUDENTS': sources[0]['user_id'], 'RESOURCES': {'id': docs[0]}, 'RESOURCES_path': 'id'}
    yield lambda: {'scope_fields': {'doc_id': docs, 'EventField.tab_id': 't.0', 'KeyField.STUDENT': students}}
    yield lambda: {
        'scope_fields': {
            'resources': {'data': sources, 'path': 'doc.id'},
            'tab_id': ['t.0', 't.1', 't.2'],
            'students': students[0],
        }
    }
    yield lambda: {'doc_id': docs, 'doc_id_path': '', 'STUDENTS': students, 'tab_id': 't.0', 'tab_id_path': None}
    yield lambda: {'RESOURCES': docs}


FIELDS: list[Any] = [
    None,
    'All',
    'Missing',
    {},
    {
        '': 'whole',
        'text': 'text',
        'count': 'n',
        'saved_ts': 'saved',
        'docs.0': 'first',
        'tags..draft': 'draft',
        'timestamps': 'timestamps',
        'provenance': 'provenance',
        'nothing.there': 'nothing',
    },
]


async def taken(generator: AsyncIterator[Any], errors: tuple[type[Exception], ...]) -> list[Any]:
    """What an asynchronous generator gives, and how it ends."""
    found: list[Any] = []
    try:
        async for element in generator:
            found += [copy.deepcopy(element)]
    except errors:
        found += ['the scope does not fit']
    return found


def plain(value: Any) -> Any:
    """A value without what describes an error in other words."""
    if isinstance(value, dict):
        if value.keys() == ERROR:
            return {
                'error': isinstance(value['error'], str),
                'of': {name: plain(value['error_provenance'][name]) for name in ('target', 'key')},
            }
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def is_iterator(value: object) -> bool:
    """Whether it can be gone through once only, and must not be copied."""
    return hasattr(value, '__anext__')


def given(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Arguments of a query that nothing else refers to; those that are one object stay one."""
    made = make()
    return made if any(map(is_iterator, made.values())) else copy.deepcopy(made)
