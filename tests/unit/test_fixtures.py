"""The fixtures for tests of an application: stores of its own for each test, and a class that writes in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from learning_observer_kvs import KVS, settings
from learning_observer_kvs.kvs import KVSRouter
from learning_observer_kvs.plugin import KVS_KEY
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, Scope, kvs_pipeline
from learning_observer_kvs.testing.fixtures import (
    ReplayClass,
    kvs_app,
    kvs_program,
    kvs_router,
    kvs_settings,
    replay_class,
)
from learning_observer_kvs.testing.sample_class import sample_class, write_study_logs

__all__ = ['kvs_app', 'kvs_program', 'kvs_router', 'kvs_settings', 'replay_class']


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]), null_state='', module_override='sample')
async def essay(event: Any, state: Any) -> Any:
    commands = [c for bundle in event['client'].get('bundles', ()) for c in bundle['commands']]
    for command in commands:
        assert command['ibi'] == len(state) + 1
        state += command['s']
    return state, False


@kvs_pipeline(module_override='sample')
async def failing(event: Any, state: Any) -> Any:
    raise LookupError('too hard')


@pytest.mark.parametrize('time', [1, 2])
async def test_each_test_has_a_router_of_its_own_which_is_empty(kvs_router: KVSRouter, time: int) -> None:
    assert kvs_router.names() == ['default', 'memoization']
    assert await kvs_router().keys() == []
    await kvs_router().set('left', time)


async def test_a_class_that_is_replayed_has_written_what_it_says(
    kvs_router: KVSRouter, replay_class: ReplayClass
) -> None:
    students = await replay_class(essay, students=4)
    assert len({(each.student, each.document) for each in students}) == 4
    assert students[3].text == students[0].text
    for each in students:
        key = f'Internal,sample.essay,EventField.doc_id:{each.document},STUDENT:{each.student}'
        assert await kvs_router()[key] == each.text


async def test_a_reducer_that_fails_fails_the_test_with_the_place(
    replay_class: ReplayClass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    with pytest.raises(AssertionError, match=r'ls-sample-01\.study\.log.*too hard'):
        await replay_class(failing, students=1)
    assert os.listdir() == []  # failed events are kept elsewhere


def test_the_sample_class_is_the_same_each_time(tmp_path: Path) -> None:
    assert sample_class(2) == sample_class(3)[:2]
    first, second = (write_study_logs(sample_class(), tmp_path / name) for name in 'ab')
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_an_application_has_the_router_of_the_test(kvs_app: web.Application, kvs_router: KVSRouter) -> None:
    assert kvs_app[KVS_KEY] is kvs_router


class TestTheProgram:
    @pytest.fixture
    def kvs_settings(self) -> dict[str, Any]:
        return {'kvs': {'default': {'type': 'stub'}, 'mine': {'type': 'stub'}}}

    @pytest.fixture(autouse=True)
    def _restored(self) -> Any:
        before = settings.settings
        yield
        assert settings.settings == before

    @pytest.mark.parametrize('time', [1, 2])
    async def test_the_router_of_the_program_has_the_settings_of_the_test_and_is_emptied(
        self, kvs_program: KVSRouter, time: int
    ) -> None:
        assert kvs_program is KVS
        assert await KVS.mine().keys() == []
        await KVS.mine().set('left', time)
