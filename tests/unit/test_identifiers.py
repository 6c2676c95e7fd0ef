"""Which strings are an id: whole ones, in every encoding; and where a value has them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning_observer_kvs import json_codec
from learning_observer_kvs.identifiers import (
    Ids,
    canonical,
    display_path,
    escape,
    file_name_form,
    related_ids,
    student_of,
)
from learning_observer_kvs.stores.keys import MAX_KEY_BYTES
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType
from learning_observer_kvs.stream_analytics.keys import Fields, make_key
from tests.support.generated import CHARACTERS, TEXT

JOSE = 'ls-José, Ruiz'


@pytest.mark.parametrize(
    'form',
    [
        JOSE,
        quote(JOSE),
        quote(JOSE).replace('%C3%A9', '%c3%a9'),
        quote(quote(JOSE)),
        escape(JOSE),
        r'ls-Jos\u00e9, Ruiz',
        r'ls-Jos\u00E9\2c Ruiz',
        'ls-Jose\u0301, Ruiz',
    ],
)
def test_every_encoding_of_an_id_is_the_id(form: str) -> None:
    assert form in Ids([JOSE])
    assert JOSE in Ids([form])
    assert Ids([JOSE]).may_be_in(json_codec.encode({'student': form}))
    assert Ids([JOSE]).may_be_in(ascii(form).encode())
    assert list(Ids([JOSE]).in_value({'a': [form]})) == [(('a', 0), 'value')]


@pytest.mark.parametrize('text', ['ls-12', 'ls-', 'xls-1', 'ls-1 ', 'LS-1', 'ls-1@x', 'the essay of ls-1', ''])
def test_a_part_of_a_string_or_a_string_with_more_is_not_the_id(text: str) -> None:
    assert text not in Ids(['ls-1'])
    assert list(Ids(['ls-1']).in_value([text, {text: text}])) == []


def test_addresses_differ_not_by_case_and_ids_do() -> None:
    assert 'JO@School.example' in Ids(['jo@school.example'])
    assert 'JO' not in Ids(['jo'])


@pytest.mark.parametrize('ids', [[], [''], ['bob', ' ']])
def test_an_empty_id_is_an_error(ids: list[str]) -> None:
    with pytest.raises(ValueError, match='empty'):
        Ids(ids)


def test_an_id_that_looks_like_the_name_of_the_file_of_another_is_not_the_other() -> None:
    assert canonical('ls-45-3') == 'ls-45-3'
    assert 'ls-45-3' not in Ids(['ls-3'])
    assert [form for _, form in Ids(['ls-3']).in_value(['ls-45-3'])] == ['file name']  # which a person judges


@pytest.mark.parametrize(
    ('key', 'student'),
    [
        ('Internal,m.r,STUDENT:ls-1', 'ls-1'),
        ('Replayed,m.r,EventField.doc_id:x,STUDENT:ls-1', 'ls-1'),
        (r'External,m.r,EventField.doc_id:D\2cSTUDENT:eve,STUDENT:doe\2c jane', 'doe, jane'),
        ('External,m.r,CLASS:ls-1', None),
        ('STUDENT:ls-1', None),
    ],
)
def test_the_student_of_a_key_is_the_value_of_its_field(key: str, student: str | None) -> None:
    assert student_of(key) == student


@pytest.mark.parametrize(
    'key',
    [
        'email-studentID-mapping:ls-1',
        'google_stored_auth/ls-1',
        '["module.roster", {"course": "7", "student": "ls-1"}]',
        '["f", "{\\"student\\": \\"ls-1\\"}"]',
        'External,m.r,TEACHER:ls-1',
        'courses?student=ls-1&page=2',
        'ls-1',
    ],
)
def test_a_key_names_a_student_by_a_whole_part(key: str) -> None:
    assert Ids(['ls-1']).are_in_key(key)
    assert not Ids(['ls-1']).are_in_key(key.replace('ls-1', 'ls-12'))


def test_every_place_in_a_value_is_found_with_its_form() -> None:
    value = {
        'students': [{'user_id': 'eve'}, {'user_id': 'ls-7', 'n': 7}],
        'by': {'ls-7': 1},
        'nested': '{"who": ["ls-7"]}',
        'keys': ['Internal,m.r,STUDENT:ls-7'],
        'essay': 'I am ls-7',
    }
    assert {(display_path(path), form) for path, form in Ids(['ls-7']).in_value(value)} == {
        ('students[1].user_id', 'value'),
        ('by.ls-7', 'name'),
        ('nested', 'text'),
        ('keys[0]', 'text'),
    }


def test_a_number_is_an_id_in_a_field_of_ids_alone() -> None:
    value = {'user_id': 17, 'words': 17, 'id': True}
    assert [path for path, _ in Ids(['17']).in_value(value)] == [('user_id',)]
    assert list(Ids(['1']).in_value({'id': True})) == []


def test_what_an_entry_calls_the_same_person_is_related_and_what_it_calls_others_is_not() -> None:
    entry = {'userId': 'ls-7', 'profile': {'emailAddress': 'jo@x', 'name': 'Jo'}, 'teacher': {'email': 'ms@x'}}
    value = {'students': [{'userId': 'eve', 'email': 'eve@x'}, entry]}
    assert set(related_ids(value, ('students', 1, 'userId'))) == {'ls-7', 'jo@x'}
    assert related_ids(value, ('students', 1, 'profile', 'name')) == ()


@given(
    st.text(CHARACTERS, min_size=1).filter(str.strip),
    st.sampled_from([str, quote, escape, lambda text: ascii(text)[1:-1]]),
)
def test_the_quick_look_at_a_text_never_misses_an_id(text: str, encoded: Any) -> None:
    if any('\ud800' <= character <= '\udfff' for character in text):
        return
    form = encoded(text)
    ids = Ids([text])
    if form in ids:
        assert ids.may_be_in(json_codec.encode([form]))
        assert form in Ids([form])


@pytest.mark.parametrize('address', ['', '@x'])
def test_the_quick_look_misses_no_letter_that_unicode_writes_otherwise(address: str) -> None:
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    forms = [f'ls-{letter}1{address}' for letter in letters if letter != canonical(letter + '@')[:-1]]
    texts = [(form, text) for form in forms for text in (json_codec.encode(form), json.dumps(form).encode())]
    missed = [text for form, text in texts if form in (ids := Ids([canonical(form)])) and not ids.may_be_in(text)]
    assert missed == []


@pytest.mark.parametrize('long', ['x' * 1001, 'é' * 400, 'a,b' * 500, 'Jo@x.example' * 100])
@pytest.mark.parametrize('encoded', [str, quote])
def test_a_long_id_is_recognized_where_a_key_has_its_digest(long: str, encoded: Any) -> None:
    written = encoded(long)
    fields: Fields = {KeyField.STUDENT: written, EventField('doc_id'): 'd' * MAX_KEY_BYTES}
    key = make_key('m.r', fields, KeyStateType.INTERNAL)
    assert (written[:50] not in key) == (len(written) > 1000)
    for ids in (Ids([long]), Ids([written])):
        assert ids.is_student_of(key)
        assert ids.may_be_in(key.encode())
        assert long in ids
        assert f'{written}x' not in ids


def test_the_spaces_of_an_id_are_plus_signs_where_the_runtime_has_quoted_it() -> None:
    ids = Ids(['ls-Jo Lee!'])
    assert all(form in ids for form in ('ls-Jo+Lee%21', 'ls-Jo%20Lee!', 'ls-Jo Lee!'))
    assert ids.is_student_of('Internal,m.r,STUDENT:ls-Jo+Lee%21')
    assert ids.may_be_in(b'"ls-Jo+Lee%21"')
    assert 'ls-Jo Lee!' not in Ids(['ls-Jo+Lee!'])


@given(TEXT)
def test_a_name_of_a_file_has_no_special_characters(text: str) -> None:
    assert not set(file_name_form(text)) & set('/ ,.:%\\')
