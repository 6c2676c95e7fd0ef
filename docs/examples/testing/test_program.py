import pytest

from learning_observer_kvs import KVS, settings
from learning_observer_kvs.kvs import clear, kvs_startup_check


@pytest.fixture(autouse=True)
async def stores():
    settings.load_settings({'kvs': {'default': {'type': 'stub'}}})
    kvs_startup_check()
    yield
    clear()
    await KVS.close()


async def greet(name):
    return await KVS().update('greetings', lambda names: [*(names or []), name])


async def test_a_greeting_is_kept():
    assert await greet('ann') == ['ann']


async def test_each_test_begins_with_nothing():
    assert await greet('bob') == ['bob']
