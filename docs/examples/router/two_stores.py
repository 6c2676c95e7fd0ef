import asyncio

from learning_observer_kvs import KVSNotConfigured, KVSRouter

SETTINGS = {
    'kvs': {
        'default': {'type': 'stub'},
        'memoization': {'type': 'stub'},
    }
}


async def main():
    async with KVSRouter.from_settings(SETTINGS) as router:
        assert router.names() == ['default', 'memoization']
        await router.memoization().set('answer', 42)
        assert await router['memoization']['answer'] == 42
        assert await router()['answer'] is None
        try:
            router.google_cache()
        except KVSNotConfigured as error:
            print(error)


asyncio.run(main())
