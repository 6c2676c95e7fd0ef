"""The integration: an event of the runtime goes through its reducers in one pass, with all that the runtime does."""

from __future__ import annotations

import json

from tests.support.runtime_host import ORDERS, STUB, Host

COUNTING = """
from learning_observer_kvs.reducers.worker import ReducerWorker
passes, alone = [], []
together, process = ReducerWorker.process_together, ReducerWorker.process

async def counted_together(self, runs):
    runs = list(runs)
    passes.append(len(runs))
    return await together(self, runs)

async def counted(self, *run):
    alone.append(run)
    return await process(self, *run)

ReducerWorker.process_together, ReducerWorker.process = counted_together, counted
"""

FAILING = """
import pathlib
app = start()
import learning_observer.stream_analytics
from learning_observer.module_loader import REDUCERS
from learning_observer.stream_analytics.helpers import student_event_reducer
from learning_observer.stream_analytics.fields import KeyField, Scope

@student_event_reducer(null_state=0)
async def first(event, state):
    return state + 1, state + 1

@student_event_reducer(null_state=0)
async def broken(event, state):
    raise LookupError('broken')

@student_event_reducer(null_state=0)
async def last(event, state):
    return state + 1, state + 1

REDUCERS[:] = [{'context': 'writing', 'function': each, 'scope': Scope([KeyField.STUDENT])}
               for each in (first, broken, last)]
learning_observer.stream_analytics.init()

async def main():
    from learning_observer import incoming_student_event as its, kvs, settings
    async with served(app):
        pipeline = await its.student_event_pipeline({'auth': {'safe_user_id': 'bob'}, 'source': 'writing'})
        raised = None
        try:
            await pipeline({'client': {'event': 'keystroke'}})
        except Exception as error:
            raised = [type(each).__name__ for each in error.exceptions], str(error)
        [file] = pathlib.Path('logs').glob('critical-error-*.tb')
        return [await kvs.KVS()[f'Internal,__main__.{name},STUDENT:bob'] for name in ('first', 'broken', 'last')], \
            file.read_text(), raised

say(asyncio.run(main()))
"""


@ORDERS
def test_all_reducers_of_an_event_are_run_in_one_pass(host: Host, order: str) -> None:
    said = host.run(
        COUNTING
        + """
async def main():
    async with served(start()) as server:
        await server.feed('bob', [{'number': 1, 'doc_id': 'a', 'word': 'w'}, {'number': 2}])
    return passes, len(alone)

say(asyncio.run(main()))
""",
        'kvs: {default: {type: sqlite, path: state}}\n',
        order,
    )
    assert said == [[5, 4], 0]  # the second event lacks a field of one scope


@ORDERS
def test_a_reducer_that_fails_is_in_the_runtimes_file_and_the_others_are_committed(host: Host, order: str) -> None:
    states, file, raised = host.run(FAILING, STUB, order)
    assert states == [1, None, 1]
    assert json.loads(file.partition('Traceback')[0]) == {'client': {'event': 'keystroke'}}
    assert '1 of 3 reducers failed: __main__.broken' in file
    assert raised is None


@ORDERS
def test_where_the_store_takes_no_event_the_file_names_all_reducers_that_it_reaches(host: Host, order: str) -> None:
    _, file, _ = host.run(
        FAILING.replace(
            '    async with served(app):\n',
            '    from learning_observer_kvs.kvs import KVS\n'
            '    from learning_observer_kvs.reducers import worker_of\n'
            '    async with served(app):\n'
            '        await worker_of(KVS()).close(1)\n',
        ),
        STUB,
        order,
    )
    [note] = [line for line in file.splitlines() if 'for lo-kvs replay: ' in line]
    keys = json.loads(note.partition('replay: ')[2])['keys']
    assert keys == [f'Internal,__main__.{name},STUDENT:bob' for name in ('first', 'broken', 'last')]


@ORDERS
def test_events_of_a_connection_without_a_student_reach_no_reducer_and_are_counted(host: Host, order: str) -> None:
    said = host.end(
        """
app = start()

async def main():
    from learning_observer import incoming_student_event as its, kvs
    async with served(app):
        for auth in ({}, {'auth': {'safe_user_id': ''}}):
            pipeline = await its.student_event_pipeline({'source': 'writing', **auth})
            for n in range(2):
                await pipeline({'client': {'event': 'keystroke', 'number': n}})
        return await kvs.KVS().dump()

say(asyncio.run(main()))
""",
        STUB,
        order,
    )
    assert json.loads(said.stdout.splitlines()[-1]) == {}, said.stderr
    counts = [line.partition(' ')[0] for line in said.stderr.splitlines() if 'did not reach a reducer' in line]
    assert counts == ['1', '1']


@ORDERS
def test_in_development_a_reducer_that_fails_is_raised(host: Host, order: str) -> None:
    states, _, raised = host.run(FAILING, STUB + 'dev: true\n', order)
    assert states == [1, None, 1]
    assert raised == [['LookupError'], '1 of 3 reducers failed: __main__.broken (1 sub-exception)']


@ORDERS
def test_a_function_that_the_server_has_replaced_or_wrapped_stays(host: Host, order: str) -> None:
    assert host.run(
        """
import functools
from learning_observer import incoming_student_event as its
original = its.student_event_pipeline

@functools.wraps(original)
async def wrapped(metadata):
    return await original(metadata)

its.student_event_pipeline = wrapped
start()
say(its.student_event_pipeline is wrapped)
""",
        STUB,
        order,
    )


def test_reducers_that_do_not_wait_need_no_task_and_nothing_that_others_could_wait_for(host: Host) -> None:
    said = host.run(
        FAILING.split('async def main')[0]
        .replace('first, broken, last', 'first, last')
        .replace(
            '    return state + 1, state + 1', '    holders.append(current_holder())\n    return state + 1, state + 1'
        )
        .replace('import pathlib', 'from learning_observer_kvs.stores.key_locks import current_holder\nholders = []')
        + """
async def main():
    from learning_observer import incoming_student_event as its, kvs
    from learning_observer_kvs.reducers import serving
    serving.TIME_SLICE = 60.0  # a task goes on with what takes longer
    async with served(app):
        pipeline = await its.student_event_pipeline({'auth': {'safe_user_id': 'bob'}, 'source': 'writing'})
        await pipeline({'client': {'event': 'keystroke'}})
        loop, made = asyncio.get_running_loop(), []

        def factory(loop, work, **options):
            made.append(work)
            return asyncio.Task(work, loop=loop, **options)

        loop.set_task_factory(factory)
        for _ in range(10):
            await pipeline({'client': {'event': 'keystroke'}})
        loop.set_task_factory(None)
        return [str(each) for each in made], holders, await kvs.KVS()['External,__main__.last,STUDENT:bob']

say(asyncio.run(main()))
""",
        STUB,
    )
    assert said == [[], [None] * 22, 11]
