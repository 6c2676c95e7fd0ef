import asyncio

from counting import count_keys

from learning_observer_kvs import kvs, prestartup, settings
from learning_observer_kvs.stream_analytics.helpers import KeyField, KeyStateType, make_key


async def lesson():
    process_event = await count_keys({'auth': {'safe_user_id': 'ls-17'}})
    for kind in ['keystroke', 'mouseclick', 'keystroke']:
        await process_event({'client': {'event': kind}})

    store = kvs.KVS()
    key = make_key(count_keys, {KeyField.STUDENT: 'ls-17'}, KeyStateType.EXTERNAL)
    print(key, await store[key])
    await kvs.KVS.close()


settings.load_settings('creds.yaml')
prestartup.startup_checks_and_init()
asyncio.run(lesson())
