import pastes
from learning_observer.stream_analytics.fields import EventField, KeyField, Scope

NAME = 'Pastes'
REDUCERS = [
    {
        'context': 'org.mitros.writing_analytics',
        'scope': Scope([KeyField.STUDENT, EventField('doc_id')]),
        'function': pastes.pastes,
        'default': {'pastes': 0, 'longest': 0},
    }
]
