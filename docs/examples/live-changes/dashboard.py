import asyncio
from contextlib import aclosing

from learning_observer_kvs import KVSRouter, queries
from learning_observer_kvs.stream_analytics.helpers import student_event_reducer


@student_event_reducer(null_state={'words': 0})
async def words(event, state):
    state['words'] += len(event['text'].split())
    return state, state


async def write(router, student, text):
    process = await words({'auth': {'safe_user_id': student}}, router=router)
    await process({'text': text}, {})


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        store, students = router(), ['ann', 'bob']

        async with queries.changes(store, words, students) as changes:
            await write(router, 'bob', 'My summer')
            change = await anext(changes)
            print({'op': 'update', 'path': change.path, 'value': await change.value()})

        async with aclosing(queries.watch(store, [words], students)) as watching:
            rows = await anext(watching)  # the whole class
            print([(row.student, row.cells[f'{__name__}.words'].value) for row in rows])
            await write(router, 'ann', 'At the sea')
            rows = await anext(watching)  # what has changed
            print([(row.student, row.cells[f'{__name__}.words'].value) for row in rows])


asyncio.run(main())
