from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, Scope, kvs_pipeline


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]), null_state={'text': '', 'time': {'last': None}})
async def essay(event, internal_state):
    internal_state['text'] += event['client']['key']
    internal_state['time']['last'] = event['client']['timestamp']
    return internal_state, {'words': len(internal_state['text'].split())}
