"""What the host requires of a module."""

from host_writing import reducers

NAME = 'Writing'
REDUCERS = [
    {'context': 'writing', 'function': reducers.count, 'scope': reducers.STUDENT},
    {'context': 'writing', 'function': reducers.words, 'scope': reducers.DOCUMENT},
    {'context': 'writing', 'function': reducers.listed_by_student, 'scope': reducers.STUDENT},
    {'context': 'writing', 'function': reducers.often_none, 'scope': reducers.STUDENT},
    {'context': 'writing', 'function': reducers.moments, 'scope': reducers.STUDENT},
    {'context': 'classes', 'function': reducers.of_a_class, 'scope': reducers.CLASS},
    {'context': 'classes', 'function': reducers.of_a_set, 'scope': reducers.STUDENT},
]
