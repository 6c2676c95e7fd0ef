"""Run the queries of a real server and ours over one state, and print where they differ.

python queries_compared.py creds.yaml study.log…
python queries_compared.py creds.yaml --record recorded.jsonl
"""

import asyncio
import copy
import itertools
import json
import sys
from pathlib import Path

import learning_observer
import learning_observer.communication_protocol.executor as executor
import learning_observer.kvs
import learning_observer.module_loader
import learning_observer.stream_analytics.helpers
from query_cases import FIELDS, arguments, given, plain, taken

from learning_observer_kvs import queries
from learning_observer_kvs.errors import ScopeFieldError
from learning_observer_kvs.replay import study_log

EVENTS = 60
SMALL = {'bob': '1AbC', 'ls-Jos%C3%A9': 'a b:c'}
"""The class of the recorded queries: documents by student."""

RECORDED = (1, 3, 4)
"""The positions of the reducers of the recorded queries: one of each scope."""

SELECTED = (1, 3, 19, 24)
"""The queries for keys whose values are recorded."""


def entries():
    return learning_observer.module_loader.reducers()


async def fill(logs):
    """Take the sessions of a class through all reducers; the students, each with a document of theirs."""
    found = {}
    for log in logs:
        student = log.name.partition('.')[0]
        pipelines = [
            (
                [field.event for field in entry['scope'] if hasattr(field, 'event')],
                await entry['function']({'auth': {'safe_user_id': student}, 'source': entry['context']}),
            )
            for entry in entries()
        ]
        for line in itertools.islice(study_log.read(log), EVENTS):
            client = line.event['client']
            for names, process_event in pipelines:
                if all(name in client for name in names):
                    await process_event(line.event, {name: client[name] for name in names})
            if 'doc_id' in client:
                found[student] = client['doc_id']
    return found


async def compare(logs):
    documents = await fill(logs)
    compared, elements, differences = 0, 0, []

    async def both(what, theirs, ours):
        nonlocal compared, elements
        theirs, ours = await taken(theirs, ERRORS), await taken(ours, ERRORS)
        compared, elements = compared + 1, elements + len(theirs)
        if json.dumps(plain(theirs)) != json.dumps(plain(ours)):  # also the order of names
            differences.append([what, repr(theirs)[:500], repr(ours)[:500]])
        return theirs

    for name in [entry[by] for by in ('id', 'string_id') for entry in entries()] + ['unknown']:
        for number, make in enumerate(arguments(documents)):
            what = f'{name} {number}'
            keys = await both(what, executor.handle_keys(name, **given(make)), queries.keys(name, **given(make)))
            keys = [key for key in keys if isinstance(key, dict)]
            for fields in FIELDS:
                await both(
                    f'{what} {fields}',
                    executor.handle_select(copy.deepcopy(keys), fields),
                    queries.select(copy.deepcopy(keys), fields),
                )
    return {
        'reducers': len(entries()),
        'students': len(documents),
        'states': len(await learning_observer.kvs.KVS().keys('Internal,')),
        'compared': compared,
        'elements': elements,
        'differences': differences,
    }


async def record():
    """Return what the server answers, with a state of each kind: a line about it, and a line for each query."""
    listed = [entries()[position] for position in RECORDED]
    values = {'KeyField.STUDENT': 'bob', 'EventField.doc_id': '1AbC', 'EventField.tab_id': 't.0'}
    state, asked = {}, []
    for entry in listed:
        scope_fields = {str(field): values[str(field)] for field in entry['scope']}
        [key] = await taken(executor.handle_keys(entry['string_id'], scope_fields=scope_fields), ERRORS)
        state[key['key']] = {'text': 'A dog', 'count': 3, 'saved_ts': 1.5, 'tags': {'draft': ['1AbC']}, 'provenance': 7}
    await learning_observer.kvs.KVS().multiset(state)
    for name in [entry['string_id'] for entry in listed] + ['unknown']:
        for number, make in enumerate(arguments(SMALL)):
            keys = await taken(executor.handle_keys(name, **given(make)), ERRORS)
            asked.append({'reducer': name, 'number': number, 'keys': keys})
            if number in SELECTED and isinstance((keys or [''])[0], dict):
                asked[-1]['selected'] = [
                    plain(await taken(executor.handle_select(copy.deepcopy(keys), fields), ERRORS)) for fields in FIELDS
                ]
    described = [
        {
            'id': entry['string_id'],
            'module': entry['function'].__module__,
            'qualname': entry['function'].__qualname__,
            'scope': sorted(map(str, entry['scope'])),
            'default': entry['default'],
        }
        for entry in listed
    ]
    return [{'documents': SMALL, 'reducers': described, 'state': state}, *asked]


ERRORS = (executor.DAGExecutionException, ScopeFieldError)
make_key = learning_observer.stream_analytics.helpers.make_key

from learning_observer_kvs.module import prepare_replay  # noqa: E402  it replaces the server's make_key

if __name__ == '__main__':
    creds, *logs = sys.argv[1:]
    prepare_replay([creds])
    learning_observer.kvs.kvs_startup_check()
    learning_observer.stream_analytics.helpers.make_key = make_key
    for position, entry in enumerate(entries()):
        entry['string_id'] = f'reducer {position}'  # two of them have one id
    if logs[0] == '--record':
        Path(logs[1]).write_text(''.join(f'{json.dumps(line)}\n' for line in asyncio.run(record())))
    else:
        print(json.dumps(asyncio.run(compare([*map(Path, logs)]))))
