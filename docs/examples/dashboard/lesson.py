from learning_observer_kvs.stream_analytics.helpers import (
    EventField,
    KeyField,
    Scope,
    kvs_pipeline,
    student_event_reducer,
)


@student_event_reducer(null_state={'keys': 0})
async def typing(event, internal_state):
    """How many keys a student has typed."""
    internal_state['keys'] += 1
    return internal_state, internal_state


@student_event_reducer()
async def last_document(event, internal_state):
    """The document that a student has typed in last."""
    state = {'id': event['client']['doc_id']}
    return state, state


@kvs_pipeline(scope=Scope([KeyField.STUDENT, EventField('doc_id')]), null_state={'text': ''})
async def essay(event, internal_state):
    """What a student has typed in a document."""
    text = internal_state['text'] + event['client']['key']
    return {'text': text}, {'words': len(text.split()), 'end': text[-20:]}
