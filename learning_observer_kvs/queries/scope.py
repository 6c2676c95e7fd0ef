"""The values for the fields of a scope, as the runtime's queries give them, and their provenance."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

from learning_observer_kvs.errors import ScopeFieldError
from learning_observer_kvs.queries.described import sorted_fields
from learning_observer_kvs.queries.paths import at_path
from learning_observer_kvs.stores.types import MISSING
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, Scope

DOCUMENT = EventField('doc_id')
"""The field of the event that names a document; queries call it ``RESOURCE`` too."""

_OF_THE_RUNTIME = ('scope_fields', 'STUDENTS', 'STUDENTS_path', 'RESOURCES', 'RESOURCES_path')

_END = object()


class FieldValues(NamedTuple):
    """Where the values of one field come from.

    Attributes:
        field: the field.
        values: an iterable of items, an ``AsyncIterable`` of them, one item that is a ``dict``, or a single value.
        path: the dotted path to the value inside of each item; ``None``: the item itself.
    """

    field: KeyField | EventField
    values: Any
    path: str | None

    @property
    def is_single(self) -> bool:
        """Whether it is a single value, which is repeated for every entry of the other fields."""
        return isinstance(self.values, (str, bytes)) or not isinstance(self.values, (AsyncIterable, Iterable))


def field_values(scope: Scope, given: Mapping[str, Any]) -> list[FieldValues] | None:
    """Find the values for each field of a scope among the arguments of a query.

    Args:
        scope: the fields.
        given: ``STUDENTS`` and ``STUDENTS_path``, ``RESOURCES`` and ``RESOURCES_path``, ``<name>`` and ``<name>_path``,
            ``scope_fields``; names match whatever their case.

    Returns:
        The values, in the order of the fields' text; ``None`` if a field has none.

    Raises:
        ScopeFieldError: there are values for fields that the scope does not have.
    """
    found: dict[str, tuple[Any, str | None]] = {}
    specs = given.get('scope_fields')
    if isinstance(specs, Mapping):
        found.update({_lower(name): _parsed(spec) for name, spec in specs.items()})
    for argument, values in given.items():
        path = f'{argument}_path'
        if argument not in _OF_THE_RUNTIME and not argument.endswith('_path') and path in given:
            found.setdefault(_lower(argument), (values, given[path]))
    for argument, field_name in (('STUDENTS', 'student'), ('RESOURCES', DOCUMENT.event)):
        if argument in given:
            found.setdefault(field_name, (given[argument], given.get(f'{argument}_path')))

    fields = sorted_fields(scope)
    names = {field: _names(field) for field in fields}
    if unexpected := found.keys() - {name for each in names.values() for name in each}:
        raise ScopeFieldError(
            f'There are values for {", ".join(sorted(unexpected))}, and the scope of the reducer is '
            f'{", ".join(map(str, fields)) or "empty"}.'
        )
    result = []
    for field in fields:
        name = next((name for name in names[field] if name in found), None)
        if name is None:
            return None
        result.append(FieldValues(field, *found[name]))
    return result


async def entries(
    values: list[FieldValues],
) -> AsyncIterator[tuple[dict[KeyField | EventField, Any], dict[str, Any]]]:
    """Go through the entries of several fields, zipped: the one with the fewest ends it.

    Single values are repeated; if all are single there is one entry. Values that are given for several fields are gone
    through once.

    Args:
        values: those of each field.

    Yields:
        A value for each field, and the provenance of each by the runtime's name of the field.
    """
    iterators = {id(each.values): _iterator(each.values) for each in values if not each.is_single}
    is_first = True
    while values and (iterators or is_first):
        is_first = False
        items: dict[int, Any] = {}
        for key, iterator in iterators.items():
            item = await anext(iterator, _END) if hasattr(iterator, '__anext__') else next(iterator, _END)
            if item is _END:
                return
            items[key] = item
        yield _entry(values, items)


def _entry(
    values: list[FieldValues], items: Mapping[int, Any]
) -> tuple[dict[KeyField | EventField, Any], dict[str, Any]]:
    fields: dict[KeyField | EventField, Any] = {}
    provenance: dict[str, Any] = {}
    copies: dict[int, Any] = {}  # the runtime notes the values of all fields in a provenance that their items share
    for each in values:
        item = each.values if each.is_single else items[id(each.values)]
        found = at_path(item, each.path or '')
        fields[each.field] = '' if found is MISSING else found
        if isinstance(item, dict) and 'provenance' in item:
            own = item['provenance']
            noted = copies.setdefault(id(own), copy.copy(own))
        else:
            noted = {'value': item}
        if each.path:
            noted[each.path] = fields[each.field]
        provenance[provenance_name(each.field)] = noted
    return fields, provenance


def provenance_name(field: KeyField | EventField) -> str:
    """Return what the runtime calls a field in a provenance.

    Args:
        field: the field.

    Returns:
        Such as ``STUDENT``, ``RESOURCE`` (a document) or ``EventField.tab_id``.
    """
    return 'RESOURCE' if field == DOCUMENT else field.name


def _iterator(values: Any) -> Any:
    if isinstance(values, dict):
        return iter([values])
    return aiter(values) if isinstance(values, AsyncIterable) else iter(values)


def _names(field: KeyField | EventField) -> list[str]:
    """What a query may call a field, in lower case; the first one that it uses counts."""
    if isinstance(field, EventField):
        base = field.event.lower()
        names = [base, f'eventfield.{base}']
        return [*names, 'resource', 'resources'] if field == DOCUMENT else names
    base = field.name.lower()
    return [base, f'keyfield.{base}', 'classes' if field is KeyField.CLASS else f'{base}s']


def _lower(name: object) -> str:
    return str(name).strip().lower()


def _parsed(spec: Any) -> tuple[Any, str | None]:
    """The values and the path of a specification in ``scope_fields``."""
    if isinstance(spec, dict):
        for name in ('values', 'value', 'items', 'data'):
            if name in spec:
                return spec[name], spec.get('path') or spec.get('value_path')
    return spec, None
