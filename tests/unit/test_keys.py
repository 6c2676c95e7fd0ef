"""Reducer keys, made and taken apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope
from learning_observer_kvs.stream_analytics.keys import (
    Fields,
    escape,
    fully_qualified_function_name,
    make_key,
    make_key_from_json,
    parse_key,
    unescape,
)


async def reconstruct(event: Any, state: Any) -> Any:
    return state, state


NAME = f'{__name__}.reconstruct'


def test_a_key_is_scope_reducer_and_fields_sorted_by_name() -> None:
    fields: Fields = {KeyField.STUDENT: 'bob', EventField('doc_id'): '1AbC'}
    assert make_key(reconstruct, fields, KeyStateType.EXTERNAL) == f'External,{NAME},EventField.doc_id:1AbC,STUDENT:bob'
    assert make_key('a.b', {KeyField.STUDENT: 123}, KeyStateType.INTERNAL) == 'Internal,a.b,STUDENT:123'


def test_percent_encoded_ids_stand_as_they_are() -> None:
    key = make_key('a.b', {KeyField.STUDENT: 'ls-Jos%C3%A9'}, KeyStateType.INTERNAL)
    assert key == 'Internal,a.b,STUDENT:ls-Jos%C3%A9'


def test_a_missing_event_field_is_none() -> None:
    assert make_key('a.b', {EventField('doc_id'): None}, KeyStateType.INTERNAL) == 'Internal,a.b,EventField.doc_id:None'


def test_a_comma_cannot_forge_another_students_key() -> None:
    forged = make_key('a.b', {EventField('doc_id'): 'D,STUDENT:victim'}, KeyStateType.INTERNAL)
    assert forged == r'Internal,a.b,EventField.doc_id:D\2cSTUDENT:victim'
    parsed = parse_key(forged)
    assert parsed is not None
    assert parsed.fields == {'EventField.doc_id': 'D,STUDENT:victim'}


@given(st.text())
def test_escaping_is_reversible_and_leaves_no_comma(text: str) -> None:
    assert unescape(escape(text)) == text
    assert ',' not in escape(text)


@given(st.text(), st.text())
def test_a_key_taken_apart_gives_what_it_was_made_of(student: str, doc: str) -> None:
    key = make_key(reconstruct, {KeyField.STUDENT: student, EventField('doc_id'): doc}, KeyStateType.INTERNAL)
    assert parse_key(key) == (KeyStateType.INTERNAL, NAME, {'EventField.doc_id': doc, 'STUDENT': student})


@pytest.mark.parametrize('key', ['x', 'Internal', 'Internal,', 'internal,a,STUDENT:b', 'Internal,a,STUDENT', ',,,'])
def test_other_keys_are_no_reducer_keys(key: str) -> None:
    assert parse_key(key) is None


def test_a_browser_names_the_external_key() -> None:
    js = {'source': NAME, 'KeyField.STUDENT': 'bob', 'EventField.doc_id': '1AbC'}
    assert make_key_from_json(js, [NAME]) == f'External,{NAME},EventField.doc_id:1AbC,STUDENT:bob'


@pytest.mark.parametrize(
    ('js', 'fault'),
    [
        ({'source': 'os.system'}, 'os.system'),
        ({}, 'None'),
        ({'source': ['a']}, r"\['a'\]"),
        ({'source': NAME, 'KeyField.NOBODY': 'x'}, 'KeyField.NOBODY'),
        ({'source': NAME, 'EventField.a,b': 'x'}, 'a,b'),
        ({'source': NAME, 'KeyField.STUDENT': {'$gt': ''}}, 'STUDENT'),
    ],
)
def test_a_browser_that_asks_for_something_else_is_told_what_there_is(js: Any, fault: str) -> None:
    with pytest.raises(InvalidKey, match=fault):
        make_key_from_json(js, [NAME])


@pytest.mark.parametrize('name', ['', 'a b', 'a,b', 'a:b', '..', "a'b", None])
def test_names_of_event_fields_are_plain_words(name: Any) -> None:
    with pytest.raises(AttributeError, match='name of an event field'):
        EventField(name)


def test_event_fields_compare_sort_and_hash_by_name() -> None:
    assert EventField('a') == EventField('a') != EventField('b')
    assert sorted([EventField('b'), EventField('a')]) == [EventField('a'), EventField('b')]
    assert Scope([EventField('a'), KeyField.STUDENT]) == Scope([KeyField.STUDENT, EventField('a')])
    assert str(EventField('doc_id')) == 'EventField.doc_id'


def test_the_name_of_a_function_is_its_module_and_qualified_name() -> None:
    assert fully_qualified_function_name(math.sin) == 'math.sin'
