"""The router: default and named stores, filled in place."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import learning_observer_kvs
from learning_observer_kvs import kvs, settings
from learning_observer_kvs.errors import KVSNotConfigured, StartupCheck
from learning_observer_kvs.kvs import KVS, InMemoryKVS, KVSRouter, kvs_startup_check, reserved_names

STUBS = {'default': {'type': 'stub'}, 'memoization': {'type': 'stub', 'expiry': 6000}}


@pytest.mark.parametrize('block', [STUBS, list(STUBS.items()), tuple(STUBS.items())], ids=['mapping', 'list', 'tuple'])
async def test_a_router_is_built_from_a_mapping_or_pairs(block: Any) -> None:
    for router in (KVSRouter(items=block), KVSRouter.from_settings({'kvs': block})):
        assert router.names() == ['default', 'memoization']
        assert router() is router() is router.default() is router['default']
        assert router.memoization() is router.memoization() is not router()


async def test_a_router_is_built_from_a_file_with_pairs(tmp_path: Path) -> None:
    (tmp_path / 'creds.yaml').write_text('kvs:\n  - [default, {type: stub}]\n  - [cache, {type: stub}]\n')
    async with KVSRouter.from_settings(tmp_path / 'creds.yaml') as router:
        assert router.names() == ['default', 'cache']


async def test_items_of_a_mapping_may_be_handed_in_as_the_runtime_does() -> None:
    assert KVSRouter(items=STUBS.items()).names() == ['default', 'memoization']


async def test_stub_stores_share_nothing_and_clear_wipes_them_all() -> None:
    router = KVSRouter(items=STUBS)
    await router().set('k', 1)
    assert await router.memoization()['k'] is None
    await router.memoization().set('k', 2)
    await router.memoization().clear()
    assert await router()['k'] == 1
    kvs.clear()
    assert await router().keys() == []


def test_a_store_that_is_not_configured_is_an_attribute_error_with_the_names_that_exist() -> None:
    router = KVSRouter(items=STUBS)
    with pytest.raises(AttributeError, match=r"'google_cache'.*default, memoization.*kvs\.google_cache"):
        router.google_cache()
    assert not hasattr(router, 'google_cache')
    with pytest.raises(KVSNotConfigured, match='not configured yet'):
        KVS()


def test_items_are_added_and_removed_as_stores_or_callables() -> None:
    store = InMemoryKVS()
    router = KVSRouter(default=store)
    assert router() is store
    router.add_item('made', InMemoryKVS)
    assert isinstance(router.made(), InMemoryKVS)
    assert router.made() is router.made()
    router.remove_item('made')
    with pytest.raises(AttributeError):
        router.made()
    with pytest.raises(KVSNotConfigured):
        router.remove_item('made')


def test_a_default_may_be_a_callable() -> None:
    router = KVSRouter(default=InMemoryKVS)
    assert isinstance(router(), InMemoryKVS)


def test_the_startup_check_fills_the_one_router_in_place_and_may_run_twice() -> None:
    settings.load_settings({'kvs': STUBS})
    assert kvs_startup_check() is True
    store = KVS()
    asyncio.run(store.set('k', 1))
    assert kvs_startup_check() is True
    assert KVS() is store
    assert learning_observer_kvs.KVS is kvs.KVS is KVS
    settings.load_settings({'kvs': {'default': {'type': 'stub'}}})
    kvs_startup_check()
    assert KVS() is store
    assert not hasattr(KVS, 'memoization')


def test_a_wrong_configuration_leaves_the_router_as_it_was() -> None:
    settings.load_settings({'kvs': STUBS})
    kvs_startup_check()
    settings.load_settings({'kvs': {'default': {'type': 'redsi'}}})
    with pytest.raises(StartupCheck, match=r"kvs\.default\.type is 'redsi'.*Did you mean 'redis'"):
        kvs_startup_check()
    assert KVS.names() == ['default', 'memoization']


@pytest.mark.parametrize('name', reserved_names())
def test_a_store_named_like_a_router_method_is_rejected(name: str) -> None:
    with pytest.raises(StartupCheck, match=rf'kvs\.{name}'):
        KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}, name: {'type': 'stub'}}})


def test_a_router_works_in_several_event_loops(tmp_path: Path) -> None:
    router = KVSRouter.from_settings(
        {
            'kvs': {
                'default': {'type': 'sqlite', 'path': str(tmp_path / 'a.sqlite3')},
                'files': {'type': 'filesystem', 'path': str(tmp_path / 'files')},
            }
        }
    )
    stores = [router(), router.files()]
    for number in range(3):
        for store in stores:
            assert asyncio.run(store['k']) == (number - 1 if number else None)
            asyncio.run(store.set('k', number))
    asyncio.run(router.close())


async def test_closing_goes_on_when_one_store_cannot_be_closed() -> None:
    closed = []

    class Stubborn(InMemoryKVS):
        async def _close(self) -> None:
            closed.append(self.name)
            raise OSError('stubborn')

    router = KVSRouter()
    router.add_item('a', Stubborn(name='a'))
    router.add_item('b', Stubborn(name='b'))
    with pytest.raises(OSError, match='stubborn'):
        await router.close()
    assert closed == ['a', 'b']
