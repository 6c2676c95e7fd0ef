"""The integration: the runtime's reducers run on our stores, without losing an event, and leave the same state."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from learning_observer_kvs.stores.sqlite.store import SQLiteKVS
from tests.support.runtime_host import ORDERS, ROOT, STUB, Host

FEED = """
EVENTS = [{'number': n, 'word': None if n % 5 == 0 else f'w{n % 7}', 'doc_id': f'd{n % 2}'} for n in range(40)]

async def main():
    async with served(start()) as server:
        await server.feed('bob', EVENTS)
        await server.feed('ls-Jos%C3%A9', EVENTS[:7])
        import learning_observer.kvs
        return await learning_observer.kvs.KVS().dump()

say(asyncio.run(main()))
"""


@ORDERS
def test_reducers_leave_the_same_state_as_in_the_runtimes_own_store(host: Host, order: str) -> None:
    its_own = host.run(FEED, STUB + 'kvs_plugin: false\n', order)
    assert its_own['Internal,host_writing.reducers.count,STUDENT:bob'] == {'count': 40}
    assert its_own['Internal,essays.now_and_then,STUDENT:bob'] == [39]
    assert its_own['Internal,host_writing.reducers.moments,STUDENT:bob'] == {'at': {'0': 39, '1': 37, '2': 38}}
    assert host.run(FEED, STUB, order) == its_own


@ORDERS
@pytest.mark.parametrize('store', ['stub', 'sqlite', 'filesystem'])
def test_two_sockets_of_a_student_lose_no_event(host: Host, order: str, store: str) -> None:
    said = host.run(
        """
async def main():
    async with served(start()) as server:
        await asyncio.gather(*(server.feed('bob', [{'number': n} for n in range(50)]) for _ in range(2)))
        import learning_observer.kvs
        return await learning_observer.kvs.KVS()['Internal,host_writing.reducers.count,STUDENT:bob']

say(asyncio.run(main()))
""",
        f'kvs: {{default: {{type: {store}, path: state}}}}\n',
        order,
    )
    assert said == {'count': 100}


@ORDERS
def test_only_reducers_that_can_be_replaced_are(host: Host, order: str) -> None:
    said = host.run(
        """
start()
import learning_observer.module_loader
say({entry['function'].__name__: hasattr(entry['function'], 'kvs_plugin')
     for entry in learning_observer.module_loader.REDUCERS})
""",
        STUB,
        order,
    )
    left = {'of_a_class': False, 'of_a_set': False}
    assert said == {'count': True, 'words': True, 'listed_by_student': True, 'often_none': True, 'moments': True} | left


def test_functions_that_are_decorated_after_the_start_are_replaced_too(host: Host) -> None:
    said = host.run(
        """
start()
from learning_observer.stream_analytics.helpers import kvs_pipeline, student_event_reducer

@kvs_pipeline(null_state=0, module_override='notebook', qualname_override='cell')
async def one(event, state):
    return state + event, state + event

@student_event_reducer()
async def two(event, state):
    return event, False

async def main():
    process_event = await one(None)
    await asyncio.gather(*(process_event(1) for _ in range(10)))
    await (await two({'auth': {'safe_user_id': 'bob'}}))('last')
    import learning_observer.kvs
    return await learning_observer.kvs.KVS().dump()

say(asyncio.run(main()))
""",
        STUB,
    )
    assert said == {
        'Internal,notebook.cell,STUDENT:[guest]': 10,
        'External,notebook.cell,STUDENT:[guest]': 10,
        'Internal,__main__.two,STUDENT:bob': 'last',
    }


@ORDERS
def test_events_for_a_foreign_default_store_are_processed_by_the_runtimes_own_pipeline(host: Host, order: str) -> None:
    said = host.run(
        """
app = start()
import learning_observer.kvs
learning_observer.kvs.KVS.add_item('default', learning_observer.kvs.InMemoryKVS)

async def main():
    async with served(app) as server:
        await server.feed('bob', [{'number': 1}])
    return learning_observer.kvs.OBJECTS

say(asyncio.run(main()))
""",
        STUB,
        order,
    )
    assert said['External,host_writing.reducers.count,STUDENT:bob'] == {'events': 1}


def test_reducers_with_our_decorators_work_in_the_runtime(host: Host) -> None:
    said = host.run(
        f"""
sys.path.append({str(ROOT / 'docs/examples/write-a-reducer')!r})
app = start()
import learning_observer.kvs, learning_observer.module_loader, learning_observer.stream_analytics, runtime_module
learning_observer.module_loader.REDUCERS[:] = [entry | {{'context': 'writing'}} for entry in runtime_module.REDUCERS]
learning_observer.stream_analytics.init()
COMMAND = {{'ty': 'is', 'ibi': 1, 's': 'x' * 40}}
EVENT = {{'event': 'google_docs_save', 'doc_id': 'd', 'bundles': [{{'commands': [COMMAND]}}]}}

async def main():
    async with served(app) as server:
        await server.feed('bob', [EVENT, EVENT])
        return await learning_observer.kvs.KVS()['External,pastes.pastes,EventField.doc_id:d,STUDENT:bob']

say(asyncio.run(main()))
""",
        STUB,
    )
    assert said == {'pastes': 2, 'longest': 40}


INTERRUPTED = """
EVENTS = [{'number': n, 'word': f'w{n}', **({'doc_id': f'd{n % 2}'} if n % 3 else {})} for n in range(12)]

async def main():
    async with served(start()) as server:
        from learning_observer_kvs.errors import StoreUnavailable
        from learning_observer_kvs.kvs import KVS
        from learning_observer_kvs.reducers import worker_of
        submit, away = KVS().submit, StoreUnavailable('away, for all events at once')

        def submit_or_fail(writes, expected, on_done, *more):
            if any(FAILS in key for key in expected):
                raise away
            return submit(writes, expected, on_done, *more)

        async def feed(events):
            await asyncio.gather(*(server.feed(student, events) for student in ('bob', 'ann')))

        await feed(EVENTS[:4])
        worker_of(KVS())._submit = submit_or_fail
        await feed(EVENTS[4:8])
        worker_of(KVS())._submit = submit
        await feed(EVENTS[8:])

asyncio.run(main())
say(None)
"""

REPLAY = """
MORE = []
from learning_observer_kvs.cli.main import main
main(['replay', 'logs', '-r', 'host_writing.reducers', '-r', 'host_writing.reducers:often_none', '--json', *MORE])
"""

LISTED = 'Internal,host_writing.reducers.listed_by_student,EventField.doc_id:None,STUDENT:{}'
"""The key that the runtime has for a reducer that is listed with another scope than it is decorated with."""


@pytest.mark.parametrize('fails', ['reducers.count', 'reducers.words', 'essays.now_and_then', 'reducers.moments'])
def test_a_replay_of_error_files_gives_events_to_the_reducers_that_missed_them(host: Host, fails: str) -> None:
    async def state() -> dict[str, Any]:
        async with SQLiteKVS(host.folder / fails, name='default') as store:
            found: dict[str, Any] = await store.dump(prefix='Internal,')
            return found

    def replay() -> dict[str, Any]:
        ended = host.end(REPLAY, creds)
        report: dict[str, Any] = json.loads(ended.stdout)
        assert (report['failures'], report['unmarked'], report['other_reducers']) == ([], [], {}), ended.stderr
        return report

    creds = f'kvs: {{default: {{type: sqlite, path: {fails}}}}}\n'
    host.run(f'FAILS = {fails!r}\n' + INTERRUPTED, creds)
    events = {student: [4, 5, 6, 7] for student in ('bob', 'ann')}
    if fails == 'reducers.words':  # which the server does not give events without a document
        events = {student: [4, 5, 7] for student in ('bob', 'ann')}
    first, second = replay(), replay()
    assert first['files'] == sum(map(len, events.values()))
    assert (second['replayed'], second['already_replayed']) == (0, first['replayed'])
    found = asyncio.run(state())
    for student in ('bob', 'ann'):
        assert found[f'Internal,host_writing.reducers.count,STUDENT:{student}'] == {'count': 12}
        words = [
            found[f'Internal,host_writing.reducers.words,EventField.doc_id:d{n},STUDENT:{student}']['words']
            for n in range(2)
        ]
        assert words == [{f'w{n}': 1 for n in range(12) if n % 3 and n % 2 == odd} for odd in range(2)]
        assert found[LISTED.format(student)] == {'count': 12}
        assert found[f'Internal,essays.now_and_then,STUDENT:{student}'] is None, 'as after every third event'


def test_a_replay_gives_reducers_the_fields_that_the_server_lists_them_with(host: Host) -> None:
    creds = 'kvs: {default: {type: sqlite, path: state}}\n'
    metadata = {'auth': {'safe_user_id': 'bob'}, 'source': 'writing'}
    events = [
        {'client': {'number': 1, 'word': 'w', 'doc_id': 'd'}, 'server': {'time': 1.0}, 'metadata': metadata},
        {'client': {'number': 2, 'word': 'w'}, 'server': {'time': 2.0}, 'metadata': metadata},
        {'client': {'number': 3}, 'server': {'time': 3.0}, 'metadata': metadata | {'source': 'another'}},
    ]
    (logs := host.folder / 'logs').mkdir()
    (logs / 'critical-error-1.tb').write_text(f'{json.dumps(events[0], indent=2)}\nTraceback:\nof an older server\n')
    (logs / 'a.study.log').write_text(''.join(f'{json.dumps(each)}\t2026-01-01\n' for each in events[1:]))
    for only in ('failed-events', 'study-logs'):
        ended = host.end(REPLAY.replace('MORE = []', f"MORE = ['--unmarked', '--only', {only!r}]"), creds)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)['failures'] == []

    async def state() -> dict[str, Any]:
        async with SQLiteKVS(host.folder / 'state', name='default') as store:
            found: dict[str, Any] = await store.dump(prefix='Internal,host_writing')
            return found

    found = asyncio.run(state())
    assert found[LISTED.format('bob')] == found['Internal,host_writing.reducers.count,STUDENT:bob'] == {'count': 2}
    words = {key: value for key, value in found.items() if 'words' in key}
    assert words == {'Internal,host_writing.reducers.words,EventField.doc_id:d,STUDENT:bob': {'words': {'w': 1}}}


@ORDERS
def test_queries_find_the_reducers_that_the_runtime_lists_by_their_ids_with_their_defaults(
    host: Host, order: str
) -> None:
    said = host.run(
        """
from learning_observer_kvs import queries

async def main():
    app = start()
    from learning_observer import kvs, module_loader
    entry = next(entry for entry in module_loader.REDUCERS if entry['function'].__name__ == 'words')
    entry |= {'id': 'host_writing.words', 'default': {'text': ''}}
    async with served(app) as server:
        await server.feed('bob', [{'number': 1, 'word': 'a', 'doc_id': 'd1'}])
        keys = [key async for key in queries.keys('host_writing.words', STUDENTS=['bob', 'eve'], RESOURCES='d1')]
        rows = await queries.table(
            kvs.KVS(), ['host_writing.words', entry['function']], ['bob', 'eve'], documents='d1', state='internal'
        )
        return [key['default'] for key in keys], [[list(cell) for cell in row.cells.values()] for row in rows]

say(asyncio.run(main()))
""",
        STUB,
        order,
    )
    defaults, [bob, eve] = said
    assert defaults == [{'text': ''}] * 2
    assert bob[0] == bob[1]
    assert bob[0][2]
    assert eve == [[{'text': ''}, bob[0][1].replace('bob', 'eve'), False]] * 2
