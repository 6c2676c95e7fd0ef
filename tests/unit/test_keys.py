"""Reducer keys: made, parsed, and named by a browser."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from learning_observer_kvs.errors import InvalidKey
from learning_observer_kvs.identifiers import escape, unescape
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES, check_key
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope
from learning_observer_kvs.stream_analytics.keys import (
    Fields,
    fully_qualified_function_name,
    make_key,
    make_key_from_json,
    parse_key,
)
from learning_observer_kvs.stream_analytics.registry import is_reducer, reducer_names, register_reducer


async def reconstruct(event: Any, state: Any) -> Any:
    return state, state


NAME = f'{__name__}.reconstruct'


def test_a_key_is_state_type_reducer_and_fields_sorted_by_name() -> None:
    fields: Fields = {KeyField.STUDENT: 'bob', EventField('doc_id'): '1AbC'}
    assert make_key(reconstruct, fields, KeyStateType.EXTERNAL) == f'External,{NAME},EventField.doc_id:1AbC,STUDENT:bob'
    assert make_key('a.b', {KeyField.STUDENT: 123}, KeyStateType.INTERNAL) == 'Internal,a.b,STUDENT:123'


def test_percent_encoded_ids_are_not_encoded_again() -> None:
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


EVERYTHING = st.text(st.characters(exclude_categories=()))  # lone surrogates, too


@given(EVERYTHING)
@example('\\')
@example('\ud800')
@example(r'\d800')
@example(r'\2c')
@example(r'\5c2c,')
def test_escaping_is_reversible_and_leaves_no_comma(text: str) -> None:
    assert unescape(escape(text)) == text
    assert ',' not in escape(text)
    escape(text).encode()  # is possible


@given(EVERYTHING, EVERYTHING)
def test_parsing_a_key_gives_the_fields_it_was_made_of(student: str, doc: str) -> None:
    key = make_key(reconstruct, {KeyField.STUDENT: student, EventField('doc_id'): doc}, KeyStateType.INTERNAL)
    assert parse_key(key) == (KeyStateType.INTERNAL, NAME, {'EventField.doc_id': doc, 'STUDENT': student})


def test_half_of_an_emoji_in_a_field_is_written_as_its_number() -> None:
    key = make_key('a.b', {EventField('doc_id'): 'x\ud83d'}, KeyStateType.INTERNAL)
    assert key == r'Internal,a.b,EventField.doc_id:x\d83d'


@pytest.mark.parametrize(
    'long', ['x' * MAX_KEY_BYTES, 'é' * (MAX_KEY_BYTES // 2), 'x' * (MAX_KEY_BYTES - 5000) + '\ud800' * 1000]
)
def test_a_value_that_makes_a_key_too_long_is_written_as_its_digest(long: str) -> None:
    def key_of(doc: str, student: str = 'bob') -> str:
        return make_key('a.b', {KeyField.STUDENT: student, EventField('doc_id'): doc}, KeyStateType.INTERNAL)

    key = key_of(long)
    assert check_key(key) == key == key_of(long)
    assert len({key, key_of(f'{long}1'), key_of(long, 'eve')}) == 3
    parsed = parse_key(key)
    assert parsed is not None
    assert parsed.fields['STUDENT'] == 'bob'
    assert len(parsed.fields['EventField.doc_id']) < 100


def test_a_key_just_within_the_limit_is_written_in_full() -> None:
    room = MAX_KEY_BYTES - len('Internal,a.b,STUDENT:')
    for text in ('x' * room, 'é' * (room // 2)):
        assert make_key('a.b', {KeyField.STUDENT: text}, KeyStateType.INTERNAL).endswith(text)


def test_names_that_are_too_long_for_a_key_are_an_error() -> None:
    with pytest.raises(InvalidKey, match='may have at most'):
        make_key('a' * MAX_KEY_BYTES, {}, KeyStateType.INTERNAL)


@pytest.mark.parametrize('key', ['x', 'Internal', 'Internal,', 'internal,a,STUDENT:b', 'Internal,a,STUDENT', ',,,'])
def test_other_keys_are_not_reducer_keys(key: str) -> None:
    assert parse_key(key) is None


@pytest.mark.parametrize(
    ('fields', 'rest'),
    [
        ({'KeyField.STUDENT': 'bob', 'EventField.doc_id': '1AbC'}, ',EventField.doc_id:1AbC,STUDENT:bob'),
        ({'KeyField.STUDENT': 17, 'EventField.doc_id': None}, ',EventField.doc_id:None,STUDENT:17'),
        ({'EventField.doc_id': 'D,STUDENT:victim'}, r',EventField.doc_id:D\2cSTUDENT:victim'),
        ({}, ''),
    ],
)
def test_a_browser_names_the_internal_key(fields: dict[str, Any], rest: str) -> None:
    assert make_key_from_json({'source': NAME, **fields}, [NAME]) == f'Internal,{NAME}{rest}'


def test_the_key_that_a_browser_names_is_the_one_that_the_reducer_keeps_its_internal_state_under() -> None:
    fields: Fields = {KeyField.STUDENT: 'bob', EventField('doc_id'): '1AbC'}
    js = {'source': NAME, **{f'{field}': value for field, value in fields.items()}}
    assert make_key_from_json(js, [NAME]) == make_key(reconstruct, fields, KeyStateType.INTERNAL)


@pytest.mark.parametrize(
    ('js', 'message'),
    [
        ({'source': 'os.system'}, "'os.system' is not a reducer of this server. There are: "),
        ({}, 'None'),
        ({'source': ['a']}, r"\['a'\]"),
        ({'source': NAME, 'KeyField.NOBODY': 'x'}, "'KeyField.NOBODY' is not a field of a key"),
        ({'source': NAME, 'EventField.a,b': 'x'}, 'a,b'),
        ({'source': NAME, 'KeyField.STUDENT': {'$gt': ''}}, 'STUDENT is .* must be text or a number'),
    ],
)
def test_what_a_browser_cannot_name_is_an_invalid_key(js: Any, message: str) -> None:
    for sources in ([NAME], {NAME}):
        with pytest.raises(InvalidKey, match=message):
            make_key_from_json(js, sources)


def test_unless_sources_are_given_a_browser_may_name_the_reducers_of_this_process_alone() -> None:
    name = f'{__name__}.registered'
    assert not is_reducer(name)
    assert name not in reducer_names()
    with pytest.raises(InvalidKey, match='is not a reducer of this server'):
        make_key_from_json({'source': name})
    register_reducer(name, make_key, Scope([KeyField.STUDENT]), b'null')
    assert is_reducer(name)
    assert make_key_from_json({'source': name}) == f'Internal,{name}'
    with pytest.raises(InvalidKey, match=rf"'other' is not .*{name}"):
        make_key_from_json({'source': 'other'})
    with pytest.raises(InvalidKey, match='is not a reducer of this server'):
        make_key_from_json({'source': name}, [])


@pytest.mark.parametrize('name', ['', 'a b', 'a,b', 'a:b', '..', "a'b", None])
def test_names_of_event_fields_have_letters_digits_dots_dashes_and_underscores_only(name: Any) -> None:
    with pytest.raises(AttributeError, match='name of an event field'):
        EventField(name)


def test_event_fields_compare_sort_and_hash_by_name() -> None:
    assert EventField('a') == EventField('a') != EventField('b')
    assert sorted([EventField('b'), EventField('a')]) == [EventField('a'), EventField('b')]
    assert Scope([EventField('a'), KeyField.STUDENT]) == Scope([KeyField.STUDENT, EventField('a')])
    assert str(EventField('doc_id')) == 'EventField.doc_id'


def test_the_name_of_a_function_is_its_module_and_qualified_name() -> None:
    assert fully_qualified_function_name(math.sin) == 'math.sin'


def test_sources_that_are_a_text_are_an_error_as_parts_of_it_would_be_names() -> None:
    with pytest.raises(ValueError, match='sources is a single value, of type str'):
        make_key_from_json({'source': 'a', 'KeyField.STUDENT': 'bob'}, 'a.b')
