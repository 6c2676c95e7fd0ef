import asyncio

from lesson import essay, last_document, typing

from learning_observer_kvs import KVSRouter

ESSAYS = {'ls-17': 'Snow falls.', 'ls-18': 'The dog barks at <everyone>.', 'ls-19': 'It was a dark and stormy night.'}


async def write(student, text, router):
    metadata = {'auth': {'safe_user_id': student}}
    process_events = [await reducer(metadata, router=router) for reducer in (typing, last_document, essay)]
    document = {'doc_id': f'essay-of-{student}'}
    for key in text:
        for process_event in process_events:
            await process_event({'client': {'event': 'keystroke', 'key': key, **document}}, document)


async def main():
    async with KVSRouter.from_settings('creds.yaml') as router:
        await asyncio.gather(*(write(student, text, router) for student, text in ESSAYS.items()))
        print(f'{len(ESSAYS)} students have typed.')


asyncio.run(main())
