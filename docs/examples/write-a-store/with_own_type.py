import asyncio

from one_file import OneFileKVS

from learning_observer_kvs import KVSRouter
from learning_observer_kvs.kvs import KVS_MAP


async def main():
    KVS_MAP['onefile'] = OneFileKVS
    async with KVSRouter.from_settings('creds.yaml') as router:
        await router().set('greeting', 'hello')
        print(await router()['greeting'])


asyncio.run(main())
