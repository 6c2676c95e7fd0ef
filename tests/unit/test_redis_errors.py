"""What errors of redis-py mean, without a server."""

from __future__ import annotations

import pytest
from redis import exceptions

from learning_observer_kvs.errors import Overloaded, StoreUnavailable
from learning_observer_kvs.stores.redis.errors import (
    ALL_BUSY,
    ReplyLost,
    is_loss,
    may_recover,
    unavailable,
    wrong_type,
)


@pytest.mark.parametrize(
    'error',
    [ReplyLost('cut'), exceptions.ConnectionError(), exceptions.TimeoutError(), ConnectionResetError(), EOFError()],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_connection_leaves_open_what_was_carried_out(error: Exception) -> None:
    assert is_loss(error)


@pytest.mark.parametrize(
    'error',
    [exceptions.BusyLoadingError(), exceptions.AuthenticationError(), exceptions.ResponseError('OOM')],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_leaves_nothing_open(error: Exception) -> None:
    assert not is_loss(error)


@pytest.mark.parametrize(
    'error',
    [
        ReplyLost('cut'),
        exceptions.ConnectionError('refused'),
        exceptions.BusyLoadingError('Redis is loading'),
        exceptions.ResponseError('LOADING Redis is loading'),
        exceptions.ResponseError('READONLY a replica'),
        StoreUnavailable('away', retry=True),
    ],
    ids=repr,
)
def test_waiting_may_help_where_a_server_is_away_loads_or_fails_over(error: Exception) -> None:
    assert may_recover(error)


@pytest.mark.parametrize(
    'error',
    [
        exceptions.AuthenticationError('NOAUTH Authentication required.'),
        exceptions.ConnectionError('[SSL: CERTIFICATE_VERIFY_FAILED]'),
        exceptions.ResponseError('ERR unknown command'),
        StoreUnavailable('the file is not a database'),
        Overloaded('full'),
    ],
    ids=repr,
)
def test_waiting_does_not_help_where_the_settings_or_the_data_are_wrong(error: Exception) -> None:
    assert not may_recover(error)


def test_an_error_without_text_is_named_by_its_type() -> None:
    error = unavailable(exceptions.ConnectionError(), 'host:1', {})
    assert isinstance(error, StoreUnavailable)
    assert 'Redis at host:1 cannot be used: ConnectionError. Is it running there?' in str(error)


def test_the_text_of_an_error_is_one_sentence_on_one_line() -> None:
    error = unavailable(exceptions.ResponseError('MISCONF\r\ncannot save.'), 'host:1', {})
    assert 'cannot be used: MISCONF cannot save. It cannot save to its disk' in str(error)


def test_busy_connections_are_an_overload_and_errors_of_this_package_stay_as_they_are() -> None:
    error = unavailable(exceptions.ConnectionError(ALL_BUSY), 'host:1', {'redis_timeout': 2})
    assert isinstance(error, Overloaded)
    assert 'all its connections were busy for 2 s' in str(error)
    assert unavailable(error, 'host:2', {}) is error


def test_an_error_without_a_known_sign_has_the_hint_to_look_at_the_log() -> None:
    assert str(unavailable(exceptions.ResponseError('ERR odd'), 'host:1', {})).endswith('ERR odd. Look at its log.')


def test_of_a_key_that_holds_no_string_only_a_write_says_that_nothing_was_written() -> None:
    assert 'Nothing was written. Find out which' in str(wrong_type("'k' in store 'a'", writing=True))
    assert 'Nothing was written' not in str(wrong_type("'k' in store 'a'"))


def test_a_key_of_another_program_is_not_said_to_be_one_to_remove() -> None:
    text = str(wrong_type("'k' in store 'a'"))
    assert 'another program wrote it' in text
    assert 'emove' not in text
