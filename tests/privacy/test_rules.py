"""By which rule a key, or a part of a value, is erased."""

from __future__ import annotations

from typing import Any

import pytest

from learning_observer_kvs.erasure_rules import aliases_in, parts_of_value, without
from learning_observer_kvs.identifiers import Ids, display_path

IDS = Ids(['ls-7', 'jo@x.example'])


def judged(key: str, value: Any, store: str = 'default') -> set[tuple[str, str | None]]:
    return {(display_path(part.path), part.rule) for part in parts_of_value(IDS, store, key, value)}


@pytest.mark.parametrize(
    ('key', 'value', 'rule'),
    [
        ('Internal,m.r,STUDENT:ls-7', 1, 'state'),
        ('Replayed,m.r,STUDENT:ls%2D7', [], 'state'),
        ('External,m.r,STUDENT:jo@x.example', {'peer': 'ls-7'}, 'state'),
        ('["courses", {"student": "ls-7"}]', {}, 'memoized result'),
        ('["courses", {"class": "7"}]', {'top': 'ls-7'}, 'memoized result'),
        ('email-studentID-mapping:jo@x.example', 'ls-7', 'mapping'),
        ('email-studentID-mapping:other@x.example', 'ls-7', 'mapping'),
        ('google_stored_auth:ls-7', {'Authorization': 'x'}, 'sign-in'),
        ('google_stored_auth:other', {'user': {'id': 'ls-7'}}, 'sign-in'),
    ],
)
def test_a_key_that_is_about_the_student_is_removed(key: str, value: Any, rule: str) -> None:
    assert judged(key, value) == {('', rule)}


def test_whatever_memoization_has_of_the_student_is_removed() -> None:
    assert judged('anything', ['ls-7'], 'memoization') == {('', 'memoized result')}
    assert judged('ls-7', 1, 'memoization') == {('', 'memoized result')}
    assert judged('anything', ['eve'], 'memoization') == set()


ROSTER = {'students': [{'userId': 'eve'}, {'userId': 'ls-7', 'profile': {'id': 'ls-7', 'name': 'Jo'}}], 'course': 1}


@pytest.mark.parametrize(
    ('value', 'left'),
    [
        (ROSTER, {'students': [{'userId': 'eve'}], 'course': 1}),
        ([{'user_id': 'ls-7'}, {'user_id': 'eve'}, {'user_id': 'jo@x.example'}], [{'user_id': 'eve'}]),
        ([{'course': 1, 'members': ['eve', 'ls-7', 'ann']}], [{'course': 1, 'members': ['eve', 'ann']}]),
        ([{'course': 1, 'students': [{'id': 'ls-7'}]}], [{'course': 1, 'students': []}]),
        ({'by_id': {'ls-7': {'n': 1}, 'eve': {'n': 2}}}, {'by_id': {'eve': {'n': 2}}}),
        ({'ls-7': {'id': 'ls-7'}, 'eve': 1}, {'eve': 1}),
    ],
)
def test_the_item_of_the_student_is_taken_out_of_a_value_that_others_share(value: Any, left: Any) -> None:
    parts = parts_of_value(IDS, 'default', 'roster:7', value)
    assert all(part.rule in ('roster entry', 'mapping entry') for part in parts)
    assert without(value, parts) == left
    assert parts_of_value(IDS, 'default', 'roster:7', left) == []


@pytest.mark.parametrize(
    ('key', 'value', 'path'),
    [
        ('Internal,m.r,STUDENT:eve', {'peers': [{'user_id': 'ls-7'}]}, 'peers[0].user_id'),
        ('External,m.r,CLASS:c', {'ls-7': 1}, 'ls-7'),
        ('External,m.r,TEACHER:ls-7', 1, ''),
        ('notes', [{'id': 'eve', 'reviewer_id': 'ls-7'}], '[0].reviewer_id'),
        ('notes', [{'id': 'eve', 'reviews': {'best': {'id': 'ls-7'}}}], '[0].reviews.best.id'),
        ('notes', {'owner': 'ls-7'}, 'owner'),
        ('notes', {'text': '{"who": "ls-7"}'}, 'text'),
        ('notes/ls-7', 1, ''),
        ('email-studentID-mapping:jo@x.example', 'the sister', ''),
        ('roster', [{'id': 'the sister', 'email': 'jo@x.example'}], '[0].email'),
        ('notes', ['x', {'file': 'ls-45-7'}], '[1].file'),
    ],
)
def test_where_no_rule_is_known_a_person_decides(key: str, value: Any, path: str) -> None:
    assert judged(key, value) == {(path, None)}
    assert without(value, parts_of_value(IDS, 'default', key, value)) == value


def test_addresses_and_other_ids_come_from_mappings_and_rosters_and_not_from_states() -> None:
    ids = Ids(['ls-7'])
    assert aliases_in(ids, 'email-studentID-mapping:jo@x.example', 'ls-7') == {'jo@x.example'}
    assert aliases_in(Ids(['jo@x.example']), 'email-studentID-mapping:jo@x.example', 'ls-7') == {'ls-7'}
    assert aliases_in(ids, 'roster', [{'id': 'ls-7', 'email': 'jo@x.example'}, {'id': 'e', 'email': 'e@x'}]) == {
        'jo@x.example'
    }
    assert aliases_in(ids, 'External,m.r,STUDENT:ls-7', [{'id': 'ls-7', 'email': 'jo@x.example'}]) == set()


@pytest.mark.parametrize(
    'value',
    [
        {'courses': [{'id': 'ls-7', 'name': 'Math'}, {'id': '2'}]},
        [{'id': 'ls-7', 'students': [{'id': 'eve'}]}],
        {'course': {'docs': [{'id': 'ls-7'}]}},
    ],
)
def test_a_course_or_document_that_has_the_number_of_a_student_is_left_to_a_person(value: Any) -> None:
    parts = parts_of_value(IDS, 'default', 'roster:7', value)
    assert [(part.path[-1], part.rule) for part in parts] == [('id', None)]
    assert without(value, parts) == value


def test_a_course_with_the_number_of_one_of_its_students_loses_that_student_alone() -> None:
    value = {'courses': [{'id': 'ls-7', 'students': [{'id': 'ls-7'}, {'id': 'eve'}]}]}
    parts = parts_of_value(IDS, 'default', 'roster:7', value)
    assert [part.rule for part in parts] == [None, 'roster entry']
    assert without(value, parts) == {'courses': [{'id': 'ls-7', 'students': [{'id': 'eve'}]}]}
