"""Settings of Redis that cannot hold together, though each is right by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlparse

from learning_observer_kvs.stores.redis.options import SSL_WORDS, WAYS, database, given, speaks_tls


class Contradiction(NamedTuple):
    """Settings that cannot hold together: the word, what is wrong with it (after the word), the cure."""

    word: str
    message: str
    hint: str


def contradictions(settings: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Every pair of settings that cannot hold together, and a URL that is none; each setting by itself is right."""

    def has(word: str) -> bool:
        return given(settings, word) not in (None, False)

    ways = [way for way, words in WAYS.items() if any(has(word) for word in words)]
    for way in ways[1:]:
        word = next(word for word in WAYS[way] if has(word))
        yield Contradiction(word, f'stands beside {ways[0]}, and both say where the server is', 'Take one of them out.')
    if has('redis_sentinels') != has('redis_service_name'):
        there, missing = 'redis_sentinels', 'redis_service_name'
        if has(missing):
            there, missing = missing, there
        yield Contradiction(there, f'needs {missing}', f'Add {missing}.')
    if has('redis_url'):
        yield from _faults_of_url(str(settings['redis_url']), has('redis_ssl'))
    if has('redis_cluster'):
        for word in ('redis_sentinels', 'redis_socket'):
            if has(word):
                yield Contradiction(
                    'redis_cluster', f'does not go with {word}', 'Name a node by redis_host and redis_port.'
                )
        if database(settings):
            yield Contradiction('redis_cluster', 'has no databases but 0', 'Take redis_db out, and use a prefix.')
    if has('redis_socket') and has('redis_ssl'):
        yield Contradiction('redis_ssl', 'does not go with redis_socket', 'Take one of them out.')
    if not speaks_tls(settings):
        for word in SSL_WORDS:
            if has(word):
                yield Contradiction(word, 'is given, but redis_ssl is not true', 'Add redis_ssl: true.')
    if has('redis_ssl_keyfile') and not has('redis_ssl_certfile'):
        yield Contradiction('redis_ssl_keyfile', 'needs redis_ssl_certfile', 'Add redis_ssl_certfile.')


def _faults_of_url(url: str, tls: bool) -> Iterator[Contradiction]:
    word, example = 'redis_url', 'Write it as redis://user:password@host:port/db.'
    try:
        parsed = urlparse(url)
    except ValueError:
        yield Contradiction(word, 'is no URL', example)
        return
    try:
        wrong_port = parsed.port == 0
    except ValueError:
        wrong_port = True
    if parsed.scheme not in ('redis', 'rediss', 'unix'):
        yield Contradiction(word, 'begins with none of redis://, rediss://, unix://', example)
        return
    if wrong_port:
        yield Contradiction(word, 'has a port that is no number from 1 to 65535', example)
    if parsed.scheme == 'unix' and not parsed.path.strip('/'):
        yield Contradiction(word, 'names no socket', 'Write it as unix:///path/of/redis.sock.')
    if parsed.scheme != 'unix' and parsed.path.strip('/') and not parsed.path.strip('/').isdigit():
        yield Contradiction(word, 'has a database that is no number', example)
    for option in sorted(set(parse_qs(parsed.query)) - {'db'}):
        yield Contradiction(word, f'has the option {option!r}', 'Write it as a redis_… setting beside the URL.')
    if tls and parsed.scheme == 'redis':
        yield Contradiction('redis_ssl', 'is true, but redis_url says redis://', 'Write rediss:// in the URL.')
