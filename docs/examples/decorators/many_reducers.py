import asyncio

from learning_observer_kvs import KVSRouter
from learning_observer_kvs.stream_analytics.event_pipeline import event_pipeline
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, Scope, kvs_pipeline


@kvs_pipeline(null_state=0)
async def events(event, internal_state):
    return internal_state + 1, internal_state + 1


@kvs_pipeline(null_state=0, scope=Scope([KeyField.STUDENT, EventField('doc_id')]))
async def characters(event, internal_state):
    internal_state += len(event['client']['text'])
    return internal_state, internal_state


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        process = await event_pipeline([events, characters], {'auth': {'safe_user_id': 'bob'}}, router=router)
        assert await process({'client': {'event': 'typed', 'text': 'Call me', 'doc_id': '1AbC'}}) == [1, 7]
        assert await process({'client': {'event': 'typed', 'text': 'Ishmael.', 'doc_id': '1AbC'}}) == [2, 15]
        assert await process({'client': {'event': 'focus'}}) == [3]
        assert process.skipped == 1


asyncio.run(main())
