"""The names of reducers: what a pipeline is called, and two reducers of one name."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.stream_analytics.fields import EventField, KeyField, KeyStateType, Scope
from learning_observer_kvs.stream_analytics.helpers import (
    fully_qualified_function_name,
    kvs_pipeline,
    make_key,
    make_key_from_json,
    student_event_reducer,
)
from learning_observer_kvs.stream_analytics.registry import is_same_function, shared_names, source_of

HERE = __name__


def make(step: int, unit: Any = None, *, sign: Any = 1) -> Callable[[Any, Any], Any]:
    async def counted(event: Any, state: Any, unit: Any = unit, *, sign: Any = sign) -> Any:
        return (state or 0) + step, False

    return counted


async def test_the_pipeline_alone_is_renamed_and_other_pipelines_of_the_function_write_elsewhere() -> None:
    func = make(1)
    before = (func.__module__, func.__qualname__)
    x = kvs_pipeline(qualname_override='x')(func)
    elsewhere = kvs_pipeline(module_override='essays')(func)
    plain = kvs_pipeline()(func)
    assert (func.__module__, func.__qualname__) == before
    names = [f'{HERE}.x', f'essays.{func.__qualname__}', f'{HERE}.{func.__qualname__}']
    assert [fully_qualified_function_name(pipeline) for pipeline in (x, elsewhere, plain)] == names
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        for pipeline, times in ((x, 1), (elsewhere, 2), (plain, 3)):
            process_event = await pipeline(router=router)
            await asyncio.gather(*(process_event({}) for _ in range(times)))
        keys = {f'Internal,{name},STUDENT:[guest]': times for name, times in zip(names, (1, 2, 3), strict=True)}
        assert await router().dump() == keys
    fields: dict[KeyField | EventField, Any] = {KeyField.STUDENT: '[guest]'}
    assert [make_key(pipeline, fields, KeyStateType.INTERNAL) for pipeline in (x, elsewhere, plain)] == list(keys)
    assert make_key_from_json({'source': f'{HERE}.x'}) == f'Internal,{HERE}.x'


def test_decorating_another_function_of_the_same_name_is_logged_and_never_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    student_event_reducer(qualname_override='logged')(make(1))
    assert caplog.text == ''
    student_event_reducer(qualname_override='logged')(make(2))
    [record] = caplog.records
    assert f'{HERE}.logged is the name of two reducers' in record.getMessage()
    assert f'{__file__}:' in record.getMessage()


def test_decorating_one_function_again_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    func = make(1)
    for _ in range(3):
        student_event_reducer(qualname_override='again')(func)
        kvs_pipeline(qualname_override='again', scope=Scope([EventField('doc_id')]))(func)
    assert caplog.text == ''


def test_a_module_that_is_loaded_again_and_a_cell_that_runs_again_are_not_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    text = (
        'from learning_observer_kvs.stream_analytics.helpers import student_event_reducer\n'
        '@student_event_reducer()\nasync def loaded(event, state):\n    return state, state\n'
    )
    (tmp_path / 'loaded_again.py').write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.reload(importlib.import_module('loaded_again'))
    del sys.modules['loaded_again']
    for number in range(2):
        exec(compile(text, f'<cell {number}>', 'exec'), {'__name__': 'notebook'})
    assert caplog.text == ''
    exec(compile(text.replace('state, state', 'state, 0'), '<cell 2>', 'exec'), {'__name__': 'notebook'})
    assert '<cell 1>:2, and now of that at <cell 2>:2' in caplog.text


class Strange:
    """A value that cannot be compared, as an array of numbers."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError


@pytest.mark.parametrize(
    ('one', 'other', 'same'),
    [
        (make(1), make(1), True),
        (make(1), make(2), False),
        (make(1), make(1, 'unit'), False),
        (make(1), make(1, sign=-1), False),
        (make(1, Strange()), make(1, Strange()), False),
        (student_event_reducer()(make(1)), make(1), True),
        (len, len, True),
        (len, max, False),
    ],
)
def test_functions_are_the_same_if_all_that_can_be_seen_is(one: Any, other: Any, same: bool) -> None:
    assert is_same_function(one, other) is same


def test_a_function_without_source_has_a_name_all_the_same() -> None:
    assert source_of(len) == '<built-in function len>'


def test_different_reducers_of_one_name_and_scope_are_a_problem() -> None:
    one, two, three = make(1), make(2), make(3)
    [problem] = shared_names(
        [
            ('a.r', ['STUDENT'], one),
            ('a.r', ['STUDENT'], one),
            ('a.r', ['STUDENT', 'EventField.doc_id'], two),
            ('b.r', ['STUDENT'], three),
            ('a.r', ['EventField.doc_id', 'STUDENT'], three),
        ]
    )
    assert (problem.id, problem.subject) == ('KVS.E023', 'a.r')
    assert problem.location == source_of(three)
    assert source_of(two) in problem.message
