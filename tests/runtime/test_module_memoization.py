"""The integration: what the runtime memoizes reads one key a call, and equal calls run once."""

from __future__ import annotations

from tests.support.runtime_host import ORDERS, STUB, Host

PROGRAM = """
start()
import learning_observer.cache as cache
runs = []

def asking(client):  # as the runtime does: decorated anew with each request
    @cache.async_memoization()
    async def process_text(text, language='en'):
        runs.append(text)
        await asyncio.sleep(0)
        if text == 'bad':
            raise LookupError(text)
        return {'words': len(text.split()), 'client': client}
    return process_text
"""


@ORDERS
def test_equal_calls_run_once_and_list_no_keys_and_each_caller_has_its_own_copy(host: Host, order: str) -> None:
    said = host.run(
        PROGRAM
        + """
async def main():
    store, listed = cache.cache_backend, []
    real = store.keys
    async def keys(prefix=''):
        listed.append(prefix)
        return await real(prefix)
    store.keys = keys
    results = await asyncio.gather(*(asking('c')('a dog') for _ in range(200)))
    results[0]['changed'] = True
    again = await asking('c')('a dog')
    errors = await asyncio.gather(*(asking('c')('bad') for _ in range(2)), return_exceptions=True)
    errors += await asyncio.gather(asking('c')('bad'), return_exceptions=True)
    return [runs, listed, results[1], again, [str(error) for error in errors], await real()]
say(asyncio.run(main()))
""",
        STUB,
        order,
    )
    result = {'words': 2, 'client': 'c'}
    key = '{"args": [["a dog"], {}], "func": "process_text", "kwargs": {}}'
    assert said == [['a dog', 'bad', 'bad'], [], result, result, ['bad'] * 3, [key]]


def test_requests_that_see_other_values_do_not_wait_for_one_run_but_share_what_is_stored(host: Host) -> None:
    said = host.run(
        PROGRAM
        + """
async def main():
    both = await asyncio.gather(asking('c')('a dog'), asking('d')('a dog'))
    return [[each['client'] for each in both], (await asking('e')('a dog'))['client'] in 'cd', len(runs)]
say(asyncio.run(main()))
""",
        STUB,
    )
    assert said == [['c', 'd'], True, 2]


def test_the_runtime_and_this_package_read_each_others_entries(host: Host) -> None:
    creds = 'kvs: {default: {type: stub}, memoization: {type: filesystem, path: memo}}\n'
    script = PROGRAM + 'say([asyncio.run(asking("c")("a dog")), runs])\n'
    first = host.run(script, creds)
    theirs = script.replace('@cache.async_memoization()', '@module._originals["async_memoization"]()').replace(
        'runs = []', 'runs = []\nfrom learning_observer_kvs import module'
    )
    assert first[1] == ['a dog']
    assert host.run(theirs, creds) == [first[0], []]
    host.run(theirs.replace('a dog', 'a cat'), creds)
    assert host.run(script.replace('a dog', 'a cat'), creds)[1] == []


def test_without_a_store_for_it_the_function_runs_with_each_call(host: Host) -> None:
    script = PROGRAM + 'asyncio.run(asking("c")("a")); asyncio.run(asking("c")("a")); say(runs)\n'
    assert host.run(script, 'kvs: {default: {type: stub}}\n') == ['a', 'a']
