"""Rules for the ``redis_*`` options, of ``redis_connection`` and of stores that have a connection of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlparse

from learning_observer_kvs.config.options import check_value
from learning_observer_kvs.config.raw_text import UnsetVariable
from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.config.rows import Block, Configuration, StoreConfig
from learning_observer_kvs.problems import CATALOGUE, Problem
from learning_observer_kvs.stores.redis.options import (
    ADDRESS_OPTIONS,
    OPTIONS,
    TLS_OPTIONS,
    database,
    given,
    location_of,
    overriding,
    speaks_tls,
)

VERIFIED = (
    'A certificate is always verified: name its authority in redis_ssl_ca_certs, or set redis_ssl_check_hostname: '
    'false for one that is for another host.'
)
"""What to do in place of not verifying a certificate."""

_WORDS_OF_OTHERS = {
    'hostname': 'redis_host',
    'user': 'redis_username',
    'pass': 'redis_password',
    'database': 'redis_db',
    'unix_socket_path': 'redis_socket',
    'unix_socket': 'redis_socket',
    'path': 'redis_socket',
    'tls': 'redis_ssl',
    'max_connections': 'redis_max_connections',
    'socket_timeout': 'redis_timeout',
    'socket_connect_timeout': 'redis_connect_timeout',
}
"""What other programs, and redis-py, call an option."""

_NAMES = frozenset(option.name for option in OPTIONS)


def unknown_option(name: object) -> str | None:
    """Return a hint for an option of Redis that is written as other programs call it, such as ``host``.

    Args:
        name: what is written.

    Returns:
        The hint; ``None`` if it is not such a name.
    """
    if is_verification(name):
        return VERIFIED
    found = _meant(name)
    return None if found is None else f'Did you mean {found!r}?'


def is_verification(name: object) -> bool:
    """Return whether an option says, in other programs, whether a certificate is verified.

    Args:
        name: what is written.
    """
    return str(name).lower().endswith('cert_reqs')


def _meant(name: object) -> str | None:
    word = str(name).lower().removeprefix('redis_')
    found = _WORDS_OF_OTHERS.get(word, f'redis_{word}')
    return found if found in _NAMES and found != name else None


def check_prefixes(configuration: Configuration) -> Iterator[Problem]:
    """Find Redis stores that share keys.

    Args:
        configuration: all rows.

    Yields:
        ``KVS.W003``, for each but the first of those that share keys.
    """
    used: list[tuple[str, tuple[str, ...], StoreConfig]] = []
    for row in configuration.stores_by_name.values():
        prefix = row.mapping.get('prefix') or ''
        if row.type not in ('redis', 'redis_ephemeral') or not isinstance(prefix, str):
            continue
        server = location_of(overriding(_shared(configuration), row.mapping))
        for other_prefix, other_server, other in used:
            if other_server == server and (prefix.startswith(other_prefix) or other_prefix.startswith(prefix)):
                shown = [display_value('prefix', text) for text in (prefix, other_prefix)]
                message = f'and {other.subject} share keys: their prefixes are {shown[0]} and {shown[1]}'
                yield Problem('KVS.W003', row.location, row.subject, message, CATALOGUE['KVS.W003'][1])
                break
        used.append((prefix, server, row))


def check_contradictions(configuration: Configuration) -> Iterator[Problem]:
    """Find options of Redis that contradict each other, where each single one is right.

    Args:
        configuration: all rows.

    Yields:
        ``KVS.E014``.
    """
    shared = _shared(configuration)
    blocks: list[tuple[Block, Mapping[str, Any]]] = []
    if configuration.redis_connection is not None:
        blocks.append((configuration.redis_connection, shared))
    blocks += [
        (row, overriding(shared, row.mapping))
        for row in configuration.stores
        if any(str(name).startswith('redis_') for name in row.mapping)
    ]
    for block, options in blocks:
        if _each_is_right(options):
            for name, message, hint in _contradictions(options):
                yield Problem('KVS.E014', block.location_of(name), f'{block.subject}.{name}', message, hint)


class _Contradiction(NamedTuple):
    """Options that contradict each other: the name of one, what is wrong with it (after the name), and the hint."""

    name: str
    message: str
    hint: str


def _shared(configuration: Configuration) -> Mapping[str, Any]:
    return configuration.redis_connection.mapping if configuration.redis_connection else {}


def _each_is_right(options: Mapping[str, Any]) -> bool:
    values = [(option, options[option.name]) for option in OPTIONS if option.name in options]
    return not any(isinstance(value, UnsetVariable) or check_value(option, value) for option, value in values)


def _contradictions(options: Mapping[str, Any]) -> Iterator[_Contradiction]:
    def has(name: str) -> bool:
        return given(options, name) not in (None, False)

    ways = [way for way, names in ADDRESS_OPTIONS.items() if any(has(name) for name in names)]
    for way in ways[1:]:
        name = next(name for name in ADDRESS_OPTIONS[way] if has(name))
        yield _Contradiction(name, f'contradicts {ways[0]}: both say where the server is', 'Take one of them out.')
    if has('redis_sentinels') != has('redis_service_name'):
        there, missing = 'redis_sentinels', 'redis_service_name'
        if has(missing):
            there, missing = missing, there
        yield _Contradiction(there, f'needs {missing}', f'Add {missing}.')
    if has('redis_url'):
        yield from _problems_of_url(str(options['redis_url']), has('redis_ssl'))
    if has('redis_cluster'):
        for name in ('redis_sentinels', 'redis_socket'):
            if has(name):
                hint = 'Name a node by redis_host and redis_port.'
                yield _Contradiction('redis_cluster', f'cannot be combined with {name}', hint)
        if database(options):
            yield _Contradiction(
                'redis_cluster', 'allows no database other than 0', 'Take redis_db out, and use a prefix.'
            )
    if has('redis_socket') and has('redis_ssl'):
        yield _Contradiction('redis_ssl', 'cannot be combined with redis_socket', 'Take one of them out.')
    if not speaks_tls(options):
        for name in TLS_OPTIONS:
            if has(name):
                yield _Contradiction(name, 'is given, but redis_ssl is not true', 'Add redis_ssl: true.')
    if has('redis_ssl_keyfile') and not has('redis_ssl_certfile'):
        yield _Contradiction('redis_ssl_keyfile', 'needs redis_ssl_certfile', 'Add redis_ssl_certfile.')


def _problems_of_url(url: str, tls: bool) -> Iterator[_Contradiction]:
    name, example = 'redis_url', 'Write it as redis://user:password@host:port/db.'
    try:
        parsed = urlparse(url)
    except ValueError:
        yield _Contradiction(name, 'is not a URL', example)
        return
    try:
        wrong_port = parsed.port == 0
    except ValueError:
        wrong_port = True
    if parsed.scheme not in ('redis', 'rediss', 'unix'):
        yield _Contradiction(name, 'does not begin with redis://, rediss:// or unix://', example)
        return
    if parsed.scheme != 'unix' and '@' in f'{parsed.path}{parsed.query}{parsed.fragment}':
        hint = 'In the user and the password, write / as %2F, ? as %3F and # as %23.'
        yield _Contradiction(name, 'has an @ after its host', hint)
        return
    if wrong_port:
        yield _Contradiction(name, 'has a port that is not a number from 1 to 65535', example)
    if parsed.scheme == 'unix' and not parsed.path.strip('/'):
        yield _Contradiction(name, 'does not name a socket', 'Write it as unix:///path/of/redis.sock.')
    if parsed.scheme != 'unix' and parsed.path.strip('/') and not parsed.path.strip('/').isdecimal():
        yield _Contradiction(name, 'has a database that is not a number', example)
    query = parse_qs(parsed.query, keep_blank_values=True)
    if not all(number.isdecimal() for number in query.get('db', ())):
        yield _Contradiction(name, 'has a database that is not a number', example)
    for option in sorted(query.keys() - {'db'}):
        hint = f'Write it as {_meant(option) or "a redis_… option"} beside the URL.'
        if is_verification(option):
            hint = VERIFIED
        yield _Contradiction(name, f'has the option {option!r}', hint)
    if tls and parsed.scheme == 'redis':
        yield _Contradiction('redis_ssl', 'is true, but redis_url begins with redis://', 'Write rediss:// in the URL.')
