import asyncio

from learning_observer_kvs import MISSING, KVSRouter


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        store = router()

        await store.set('a', {'words': 12})
        assert await store['a'] == {'words': 12}
        assert await store['missing'] is None

        await store.multiset({'b': 1, 'c': [1, 2]})
        assert await store.multiget(['c', 'missing', 'b']) == [[1, 2], None, 1]

        assert await store.update('b', lambda value: value + 1) == 2
        assert await store.compare_and_set('b', 2, 3)
        assert await store.commit({'b': MISSING, 'd': 4}, expected={'c': [1, 2]})

        assert sorted(await store.keys()) == ['a', 'c', 'd']
        page = await store.scan(prefix='', cursor=None, limit=2)
        assert page.cursor is not None

        assert await store.dump('backup.json') == 3
        await store.clear()
        assert await store.load('backup.json') == 3
        assert await store.remove('a') is True


asyncio.run(main())
