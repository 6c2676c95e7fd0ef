from learning_observer_kvs.stream_analytics.helpers import student_event_reducer


@student_event_reducer(null_state={'keys': 0})
async def keys(event, internal_state):
    internal_state['keys'] += event['client']['event'] == 'keystroke'
    return internal_state, internal_state
