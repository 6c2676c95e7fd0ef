"""What a router does with the settings of a start, and at its end."""

from __future__ import annotations

import pytest

from learning_observer_kvs.errors import StartupCheck
from learning_observer_kvs.kvs import KVS, KVS_MAP, KVSRouter, kvs_live_check, live_problems
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.memory import InMemoryKVS
from tests.support.checks import parse


class Watched(InMemoryKVS):
    """Reports a problem, and counts how often it is closed."""

    closed = 0

    async def health_check(self) -> list[Problem]:
        return [Problem('KVS.E018', '', 'type', 'does not work', 'Correct it.')]

    async def _close(self) -> None:
        self.closed += 1


async def test_a_store_that_reports_an_error_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KVS, '_entries', {})
    await kvs_live_check()
    KVS.add_item('a', Watched())
    with pytest.raises(StartupCheck, match=r'kvs\.a does not work\. Correct it\.'):
        await kvs_live_check()


async def test_the_live_problems_of_a_configuration_are_those_of_its_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KVS_MAP, 'watched', Watched)
    found = await live_problems(parse({'kvs': {'default': {'type': 'stub'}, 'a': {'type': 'watched'}}}))
    assert [(problem.id, problem.subject) for problem in found] == [('KVS.E018', 'kvs.a')]


async def test_a_router_closes_its_stores_at_the_end_of_its_block() -> None:
    store = Watched()
    async with KVSRouter(default=store) as router:
        assert router() is store
        assert store.closed == 0
    assert store.closed == 1


def test_the_default_store_of_the_items_comes_before_the_one_that_is_given() -> None:
    given = InMemoryKVS()
    assert KVSRouter(default=given, items={'default': {'type': 'stub'}})() is not given
    assert KVSRouter(default=given, items={'a': {'type': 'stub'}})() is given
    assert KVSRouter().names() == []


@pytest.mark.parametrize('name', ['_x', '__deepcopy__'])
def test_names_with_an_underscore_are_not_stores(name: str) -> None:
    with pytest.raises(AttributeError, match=f'^{name}$'):
        getattr(KVSRouter(), name)


def test_the_redis_stores_of_a_router_are_where_its_settings_say() -> None:
    router = KVSRouter.from_settings({'kvs': {'default': {'type': 'redis'}}, 'redis_connection': {'redis_host': 'h'}})
    assert 'h:6379' in router().location()
    router.configure(parse({'kvs': {'default': {'type': 'redis'}}}))
    assert 'localhost:6379' in router().location()
