from learning_observer_kvs.stream_analytics.helpers import student_event_reducer


@student_event_reducer(null_state={'keys': 0})
async def count_keys(event, internal_state):
    if event['client']['event'] != 'keystroke':
        return False, False
    internal_state['keys'] += 1
    return internal_state, {'keys typed': internal_state['keys']}
