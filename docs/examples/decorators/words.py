import asyncio

from learning_observer_kvs import KVSRouter
from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    KeyStateType,
    Scope,
    kvs_pipeline,
    make_key,
    make_key_from_json,
    parse_key,
)


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]), null_state={'words': 0}, module_override='demo')
async def words(event, internal_state):
    internal_state['words'] += len(event['text'].split())
    return internal_state, internal_state['words']


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        process_event = await words({'auth': {'safe_user_id': 'bob'}}, router=router)
        assert await process_event({'text': 'Call me Ishmael.'}, {'doc_id': '1AbC'}) == 3
        assert await process_event({'text': 'Some years ago'}, {'doc_id': '1AbC'}) == 6

        fields = {KeyField.STUDENT: 'bob', EventField('doc_id'): '1AbC'}
        external = make_key(words, fields, KeyStateType.EXTERNAL)
        assert external == 'External,demo.words,EventField.doc_id:1AbC,STUDENT:bob'
        assert await router()[external] == 6

        asked = {'source': 'demo.words', 'KeyField.STUDENT': 'bob', 'EventField.doc_id': '1AbC'}
        internal = make_key_from_json(asked)
        assert await router()[internal] == {'words': 6}
        assert parse_key(internal).fields == {'STUDENT': 'bob', 'EventField.doc_id': '1AbC'}


asyncio.run(main())
