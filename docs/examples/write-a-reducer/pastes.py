from learning_observer_kvs.stream_analytics.helpers import EventField, KeyField, Scope, kvs_pipeline

LONG = 25


def inserted(commands):
    """What is inserted, also by lists of commands."""
    for command in commands:
        if command['ty'] == 'is':
            yield command['s']
        elif command['ty'] == 'mlti':
            yield from inserted(command['mts'])


@kvs_pipeline(
    scope=Scope([KeyField.STUDENT, EventField('doc_id')]),
    null_state={'pastes': 0, 'longest': 0},
)
async def pastes(event, internal_state):
    """How often long pieces come into a document at once, and how long the longest was."""
    client = event['client']
    if client['event'] != 'google_docs_save':
        return False, False
    texts = [text for bundle in client['bundles'] for text in inserted(bundle['commands'])]
    longest = max(map(len, texts), default=0)
    if longest < LONG:
        return False, False
    internal_state['pastes'] += 1
    internal_state['longest'] = max(internal_state['longest'], longest)
    return internal_state, internal_state
