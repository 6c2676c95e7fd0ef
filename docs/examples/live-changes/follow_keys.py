import asyncio

from learning_observer_kvs import KVSRouter


async def follow(store, seen):
    async for change in store.changes('essay,'):
        if change.kind == 'resync':
            seen.clear()
            seen.update(await store.dump(prefix='essay,'))
        else:
            seen[change.key] = await change.value()  # None: it was removed
        if seen.get('essay,2') == 'The end':
            break


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'sqlite', 'path': 'state.sqlite3'}}}) as router:
        store = router()
        async with store.changes('essay,') as changes:  # from here on nothing is missed
            print(await store.keys('essay,'))
            await store.set('essay,1', 'Once')
            print((await anext(changes)).key)

        seen = {}
        following = asyncio.create_task(follow(store, seen))
        while not following.done():
            await store.set('essay,2', 'The end')
            await asyncio.sleep(0.01)
        print(seen)


asyncio.run(main())
