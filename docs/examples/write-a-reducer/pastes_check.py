import asyncio

from pastes import pastes

from learning_observer_kvs import KVSRouter
from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, KeyStateType, make_key


def saved(text):
    bundle = {'commands': [{'ty': 'is', 'ibi': 1, 's': text}]}
    return {'client': {'event': 'google_docs_save', 'bundles': [bundle]}}


async def main():
    async with KVSRouter.from_settings({'kvs': {'default': {'type': 'stub'}}}) as router:
        process_event = await pastes({'auth': {'safe_user_id': 'ls-17'}}, router=router)
        for length in (3, 40, 30):
            await process_event(saved('x' * length), {'doc_id': '1AbC'})

        fields = {KeyField.STUDENT: 'ls-17', EventField('doc_id'): '1AbC'}
        key = make_key(pastes, fields, KeyStateType.EXTERNAL)
        assert await router()[key] == {'pastes': 2, 'longest': 40}


asyncio.run(main())
