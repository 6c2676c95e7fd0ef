import asyncio

from learning_observer_kvs import KVSRouter, Overloaded, StoreUnavailable, WriteUnclear


async def set_in_any_case(store, key, value, tries=5):
    for attempt in range(tries):
        try:
            return await store.set(key, value)
        except (Overloaded, StoreUnavailable, WriteUnclear):
            if attempt == tries - 1:
                raise
            await asyncio.sleep(0.1 * 2**attempt)


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        await set_in_any_case(router(), 'greeting', 'hello')
        print(await router()['greeting'])


asyncio.run(main())
