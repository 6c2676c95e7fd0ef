import asyncio

from learning_observer_kvs import KVSRouter, memoize

router = KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}, 'memoization': {'type': 'stub'}}})
runs = []


@memoize(router.memoization, expiry=60)
async def grammar(text, language='en'):
    runs.append(text)  # stands for a slow service
    return {'words': len(text.split()), 'language': language}


async def main():
    async with router:
        await asyncio.gather(*(grammar('A dog barks.') for _ in range(200)))
        await grammar('A dog barks.')
        print(len(runs), 'run')
        [key] = await router.memoization().keys()
        print(key)


asyncio.run(main())
