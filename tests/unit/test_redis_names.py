"""Keys as Redis keys, on a single server and in a cluster, and back."""

from __future__ import annotations

import fnmatch
import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from learning_observer_kvs.stores.redis.names import META_PREFIX, ClusterNames, Names, decode, escape_glob, slot_of
from tests.support.generated import CHARACTERS

any_key = st.text(CHARACTERS, min_size=1)
prefixes = st.sampled_from(['', 'lo:', '{a}', '\x00lo-', META_PREFIX, '*?['])


@given(prefix=prefixes, key=any_key)
@example(prefix='', key=META_PREFIX)
@example(prefix='', key=META_PREFIX + 'key:' + META_PREFIX)
@example(prefix='lo:', key=META_PREFIX + META_PREFIX + 'key:key:')
@example(prefix='', key='k' + META_PREFIX + 'writer:w')
@example(prefix='\x00lo-', key='kvs:writer:x')
@example(prefix='', key='\x00lo-' + META_PREFIX + 'kvs:x')  # without what stands for it the rest is a META_PREFIX
@pytest.mark.parametrize('kind', [Names, ClusterNames])
def test_a_key_is_found_from_its_redis_key(kind: type[Names], prefix: str, key: str) -> None:
    names = kind(prefix)
    assert names.key(names.redis_key(key).encode()) == key
    assert names.redis_key(key) != names.record_key('w', names.redis_key(key))


def test_on_a_single_server_a_redis_key_is_the_key_behind_the_prefix() -> None:
    assert Names('').redis_key('k') == 'k'
    assert Names('lo:').redis_key('k') == 'lo:k'
    assert Names('lo:').redis_key(META_PREFIX + 'x') == f'lo:{META_PREFIX}key:x'
    assert Names('').max_keys_per_write == 500


@pytest.mark.parametrize(
    'redis_key', [b'', b'lo:', b'lo', b'xlo:k', b'lo:\xff', META_PREFIX.encode() + b'writer:w', b'lo:\x00lo-kvs:k']
)
def test_what_a_store_did_not_write_is_not_one_of_its_keys(redis_key: bytes) -> None:
    assert Names('lo:').key(redis_key) is None
    assert ClusterNames('lo:').key(redis_key) is None


@pytest.mark.parametrize('prefix', ['', 'lo:', 'l'])
def test_the_records_of_writers_are_below_the_prefix_and_not_keys_of_any_store(prefix: str) -> None:
    record = Names('lo:').record_key('w', 'lo:k')
    assert record == f'lo:{META_PREFIX}writer:w'
    assert Names(prefix).key(record.encode()) is None
    names = ClusterNames('lo:')
    record = names.record_key('w', names.redis_key('k'))
    assert record == names.redis_key('k')[:-1] + f'{META_PREFIX}writer:w'
    assert fnmatch.fnmatchcase(record, names.scan_pattern(''))
    assert ClusterNames(prefix).key(record.encode()) is None


def test_the_keys_with_a_prefix_are_found_by_its_pattern_wherever_a_hidden_name_is_in_them() -> None:
    names = Names('lo:')
    for key in ('Internal,' + META_PREFIX + 'x', META_PREFIX, 'Internal,' + META_PREFIX):
        for end in range(len(key)):
            pattern = names.scan_pattern(key[:end]).replace('\\', '')  # none of these has a special character
            assert fnmatch.fnmatchcase(names.redis_key(key), pattern)


def test_in_a_cluster_a_redis_key_begins_with_the_digest_of_the_key_as_its_hash_tag() -> None:
    digest = hashlib.blake2b(b'k', digest_size=8).hexdigest()
    assert ClusterNames('lo:').redis_key('k') == f'{{{digest}}}:lo:k'
    assert ClusterNames('').max_keys_per_write == 1


@pytest.mark.parametrize('kind', [Names, ClusterNames])
def test_all_keys_with_a_prefix_begin_in_redis_with_what_is_tracked_for_it(kind: type[Names]) -> None:
    names = kind('lo:')
    assert names.redis_key('Internal,x').startswith(names.tracked_prefix('Internal,'))


def test_the_two_states_of_a_reducer_and_their_record_share_a_slot() -> None:
    names = ClusterNames('lo:')
    internal, external = names.redis_key('Internal,r,STUDENT:a'), names.redis_key('External,r,STUDENT:a')
    assert slot_of(internal) == slot_of(external) == key_slot(internal.encode()) == key_slot(external.encode())
    assert key_slot(names.record_key('w', internal).encode()) == slot_of(internal)
    tags = {names.redis_key(key)[:18] for key in ('Internal', 'External', 'Other,r', 'r', 'Internal,r', 'External,r')}
    assert len(tags) == 4  # the last three share that of r


@given(key=any_key)
def test_the_slot_of_a_key_is_the_one_that_a_cluster_computes(key: str) -> None:
    redis_key = ClusterNames('').redis_key(key)
    assert slot_of(redis_key) == key_slot(redis_key.encode())


@pytest.mark.parametrize(
    'redis_key', ['{0123456789abcdef}:lo:k', 'k', '{', '{' + '0' * 16 + '}:lo:', 'x' * 30, '{lo:k}' + '0' * 30]
)
def test_a_redis_key_with_another_digest_was_not_written_in_a_cluster(redis_key: str) -> None:
    assert ClusterNames('lo:').key(redis_key.encode()) is None


def test_the_key_of_another_store_is_not_one_of_this_store() -> None:
    assert ClusterNames('lo:').key(ClusterNames('ol:').redis_key('k').encode()) is None
    assert ClusterNames('lo:').key(ClusterNames('lo:').redis_key('').encode()) is None
    assert ClusterNames('lo:').key(ClusterNames('').redis_key('lo:k').encode()) is None


@given(text=st.text('ab*?[]\\^-{}', max_size=6))
def test_a_pattern_matches_its_text_and_nothing_else(text: str) -> None:
    pattern = escape_glob(text)
    assert pattern.replace('\\', '') == text.replace('\\', '')
    assert all(pattern[at - 1] == '\\' for at, character in enumerate(pattern) if character in '*?[]^-')


def test_special_characters_of_patterns_are_escaped() -> None:
    assert escape_glob('a*?[]\\^-b') == r'a\*\?\[\]\\\^\-b'
    assert Names('l*').scan_pattern('a?') == r'l\*a\?*'
    assert Names('').scan_pattern('') == '*'
    assert ClusterNames('l*').scan_pattern('a?') == '{' + '?' * 16 + r'}:l\*a\?*'
    assert fnmatch.fnmatchcase(ClusterNames('lo:').redis_key('abc'), ClusterNames('lo:').scan_pattern('ab'))


def test_bytes_that_are_not_utf_8_are_not_text() -> None:
    assert decode('é'.encode()) == 'é'
    assert decode(b'\xff') is None
