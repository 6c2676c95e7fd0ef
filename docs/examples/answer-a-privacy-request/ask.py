import asyncio

from learning_observer_kvs import KVSRouter, privacy


async def main():
    async with KVSRouter.from_settings('creds.yaml') as router:
        stores = {'default': router()}
        ids = privacy.Ids(['ls-17', 'jo@school.example'])
        async for place in privacy.find(stores, ids, folders=['logs']):
            print(place.name)
        receipt = await privacy.erase(stores, ids, who='the office', folders=['logs'])
        print(receipt.is_complete, receipt.erased.total())


asyncio.run(main())
