"""The integration: the names of reducers, and two reducers of one name."""

from __future__ import annotations

from tests.support.runtime_host import ORDERS, STUB, Host

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
