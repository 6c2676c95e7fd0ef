"""The integration: the runtime's reducers run on our stores, without losing an event, and leave the same state."""

from __future__ import annotations

import pytest

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
    assert said == {'count': True, 'words': True, 'often_none': True, 'moments': True} | left


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


TWO_OF_ONE_NAME = """
import learning_observer.module_loader, learning_observer.prestartup, learning_observer.stream_analytics
from host_writing import module, reducers
from learning_observer.stream_analytics.helpers import kvs_pipeline, student_event_reducer

def make(step):
    async def counted(event, state):
        return (state or 0) + step, False
    return counted

@student_event_reducer()
async def mine(event, state):
    return state, state

by_one = make(1)
pipelines = {
    'same': [student_event_reducer()(by_one), student_event_reducer()(by_one)],
    'other scope': [student_event_reducer()(make(1)), kvs_pipeline(scope=reducers.DOCUMENT)(make(2))],
    'other name': [student_event_reducer()(make(1)), kvs_pipeline(qualname_override='by_two')(make(2))],
    'different': [student_event_reducer()(make(1)), student_event_reducer()(make(2))],
}
scopes = {'other scope': [reducers.STUDENT, reducers.DOCUMENT]}

def listed(case):
    return [{'context': context, 'function': function, 'scope': scope}
            for context, function, scope in zip(['a', 'b'], pipelines[case], scopes.get(case, [reducers.STUDENT] * 2))]

def outcome(call):
    try:
        call()
    except learning_observer.prestartup.StartupCheck as failure:
        return str(failure)
"""


@ORDERS
def test_two_different_reducers_of_one_name_and_scope_end_the_start(host: Host, order: str) -> None:
    ended = host.end(
        TWO_OF_ONE_NAME + "module.REDUCERS = [*module.REDUCERS, *listed('different')]\nstart()\n", STUB, order
    )
    assert ended.returncode == 1
    said = ended.stdout + ended.stderr
    assert said.count('__main__.make.<locals>.counted is the name of two reducers') == 1
    assert 'KVS.E023' in said
    assert 'Traceback' not in said


def test_reducers_that_share_no_key_and_one_that_is_listed_twice_may_be_listed(host: Host) -> None:
    said = host.run(
        TWO_OF_ONE_NAME
        + """
start()
def list_all(case):
    learning_observer.module_loader.REDUCERS[:] = listed(case)
    learning_observer.stream_analytics.init()
say({case: outcome(lambda: list_all(case)) for case in pipelines})
""",
        STUB,
    )
    assert 'KVS.E023' in said.pop('different')
    assert said == {'same': None, 'other scope': None, 'other name': None}


def test_a_function_of_which_two_reducers_are_made_keeps_its_name(host: Host) -> None:
    said = host.run(
        """
start()
from learning_observer.stream_analytics.helpers import kvs_pipeline

async def count(event, state):
    return (state or 0) + 1, False

named, plain = kvs_pipeline(qualname_override='x')(count), kvs_pipeline()(count)

async def main():
    for pipeline in (named, plain):
        await (await pipeline(None))({})
    import learning_observer.kvs
    return [count.__qualname__, named.__qualname__, plain.__qualname__, await learning_observer.kvs.KVS().dump()]

say(asyncio.run(main()))
""",
        STUB,
    )
    states = {f'Internal,__main__.{name},STUDENT:[guest]': 1 for name in ('x', 'count')}
    assert said == ['count', 'x', 'count', states]
