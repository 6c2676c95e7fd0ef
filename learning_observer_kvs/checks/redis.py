"""The check of the Redis options against each other: some are valid alone and contradict another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlparse

from learning_observer_kvs.stores.redis.options import ADDRESS_OPTIONS, TLS_OPTIONS, database, given, speaks_tls


class Contradiction(NamedTuple):
    """An option that contradicts another.

    Args:
        option: its name.
        message: what is wrong, as the rest of a sentence that begins with the name.
        hint: what to do, as a sentence.
    """

    option: str
    message: str
    hint: str


def contradictions(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Check settings of Redis of which each is valid alone.

    Args:
        settings: all that hold for a connection.

    Yields:
        Each option that contradicts another, and what is wrong with the URL.
    """

    def has(name: str) -> bool:
        return given(settings, name) not in (None, False)

    ways = [way for way, options in ADDRESS_OPTIONS.items() if any(has(name) for name in options)]
    for way in ways[1:]:
        name = next(name for name in ADDRESS_OPTIONS[way] if has(name))
        message = f'contradicts {ways[0]}: both say where the server is'
        yield Contradiction(name, message, 'Take one of them out.')
    if has('redis_sentinels') != has('redis_service_name'):
        present, missing = 'redis_sentinels', 'redis_service_name'
        if has(missing):
            present, missing = missing, present
        yield Contradiction(present, f'needs {missing}', f'Add {missing}.')
    if has('redis_url'):
        yield from _check_url(str(settings['redis_url']), has('redis_ssl'))
    if has('redis_cluster'):
        for name in ('redis_sentinels', 'redis_socket'):
            if has(name):
                hint = 'Name a node by redis_host and redis_port.'
                yield Contradiction('redis_cluster', f'cannot be combined with {name}', hint)
        if database(settings):
            yield Contradiction(
                'redis_cluster', 'allows no database other than 0', 'Take redis_db out, and use a prefix.'
            )
    if has('redis_socket') and has('redis_ssl'):
        yield Contradiction('redis_ssl', 'cannot be combined with redis_socket', 'Take one of them out.')
    if not speaks_tls(settings):
        for name in TLS_OPTIONS:
            if has(name):
                yield Contradiction(name, 'is given, but redis_ssl is not true', 'Add redis_ssl: true.')
    if has('redis_ssl_keyfile') and not has('redis_ssl_certfile'):
        yield Contradiction('redis_ssl_keyfile', 'needs redis_ssl_certfile', 'Add redis_ssl_certfile.')


def _check_url(url: str, tls: bool) -> Iterator[Contradiction]:
    name, example = 'redis_url', 'Write it as redis://user:password@host:port/db.'
    try:
        parsed = urlparse(url)
    except ValueError:
        yield Contradiction(name, 'is not a URL', example)
        return
    try:
        wrong_port = parsed.port == 0
    except ValueError:
        wrong_port = True
    if parsed.scheme not in ('redis', 'rediss', 'unix'):
        yield Contradiction(name, 'does not begin with redis://, rediss:// or unix://', example)
        return
    if wrong_port:
        yield Contradiction(name, 'has a port that is not a number from 1 to 65535', example)
    if parsed.scheme == 'unix' and not parsed.path.strip('/'):
        yield Contradiction(name, 'does not name a socket', 'Write it as unix:///path/of/redis.sock.')
    if parsed.scheme != 'unix' and parsed.path.strip('/') and not parsed.path.strip('/').isdigit():
        yield Contradiction(name, 'has a database that is not a number', example)
    for option in sorted(set(parse_qs(parsed.query)) - {'db'}):
        yield Contradiction(name, f'has the option {option!r}', 'Write it as a redis_… option beside the URL.')
    if tls and parsed.scheme == 'redis':
        yield Contradiction('redis_ssl', 'is true, but redis_url says redis://', 'Write rediss:// in the URL.')
