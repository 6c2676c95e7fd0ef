"""What the ``redis_*`` settings mean: where a Redis is, and the client that reaches it.

TLS, authentication, Sentinel and Cluster are redis-py's. Its defaults are wrong for a store, so none is left to it: it
would send a write again whose reply was lost, up to ten times, and give up over 100 commands at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.config.redaction import REDACTED, without_credentials

OPTIONS: tuple[Option, ...] = (
    Option('redis_host', 'text', default='localhost', doc='the host of the server, or of any node of a cluster.'),
    Option('redis_port', 'port', default=6379, doc='its port.'),
    Option('redis_socket', 'text or null', doc='the path of its unix socket, instead of host and port.'),
    Option(
        'redis_url',
        'text or null',
        doc='host, port, user, password and db as one URL: redis://, rediss:// (TLS) or unix://.',
    ),
    Option(
        'redis_sentinels',
        'addresses',
        doc='the Sentinels that know where the master is, each as host:port, instead of host and port.',
    ),
    Option('redis_service_name', 'text or null', doc='what the Sentinels call the master.'),
    Option('redis_cluster', 'boolean', default=False, doc='whether the server is a node of a Redis Cluster.'),
    Option('redis_db', 'index', default=0, doc='the number of the database.'),
    Option('redis_username', 'text or null', doc='the user, where the server has an access control list.'),
    Option('redis_password', 'text or null', doc='the password.'),
    Option('redis_sentinel_username', 'text or null', doc='the user for the Sentinels themselves.'),
    Option('redis_sentinel_password', 'text or null', doc='the password for the Sentinels themselves.'),
    Option('redis_ssl', 'boolean', default=False, doc='whether to speak TLS; the certificate is verified.'),
    Option(
        'redis_ssl_ca_certs',
        'text or null',
        doc="a file of the authorities to trust, for a certificate that the system's do not vouch for.",
    ),
    Option('redis_ssl_certfile', 'text or null', doc='the certificate of this client, where the server wants one.'),
    Option('redis_ssl_keyfile', 'text or null', doc='the key of that certificate, if it is in a file of its own.'),
    Option(
        'redis_ssl_check_hostname',
        'boolean',
        default=True,
        doc='whether the certificate must be for the host that is connected to.',
    ),
    Option('redis_connect_timeout', 'seconds', default=2, doc='seconds to wait for a connection.'),
    Option('redis_timeout', 'seconds', default=5, doc='seconds to wait for an answer, or for a free connection.'),
    Option('redis_max_connections', 'count', default=20, doc='how many connections are open at once; more wait.'),
)
"""What the ``redis_connection`` block takes, and the block of a Redis store that has a connection of its own."""

_DEFAULTS = {option.name: option.default for option in OPTIONS}

WAYS = {
    'redis_url': ('redis_url',),
    'redis_socket': ('redis_socket',),
    'redis_sentinels': ('redis_sentinels', 'redis_service_name'),
    'redis_host': ('redis_host', 'redis_port'),
}
"""Each way of saying where the server is, and its words."""

SSL_WORDS = ('redis_ssl_ca_certs', 'redis_ssl_certfile', 'redis_ssl_keyfile')


def overriding(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of another block on top; one that names another place replaces the place as a whole, and a
    URL with a user or a password both of them."""
    kept = dict(base)
    named = {way for way, words in WAYS.items() if any(given(own, word) is not None for word in words)}
    for way, words in WAYS.items():
        if named and way not in named:
            for word in words:
                kept.pop(word, None)
    host = str(given(own, 'redis_url') or '').partition('://')[2].partition('/')[0]
    if '@' in host:
        for word in ('redis_username', 'redis_password'):
            kept.pop(word, None)
    return {**kept, **own}


def place_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Where keys go, as written: the same for settings that name the same place alike."""
    words = [*(word for words in WAYS.values() for word in words), 'redis_db']
    return tuple(str(value(settings, word)) for word in words)


def address(settings: Mapping[str, Any]) -> str:
    """Where the server is, for messages; no password in it."""
    if url := given(settings, 'redis_url'):
        return without_credentials(str(url)).replace(f'{REDACTED}@', '')
    if path := given(settings, 'redis_socket'):
        return str(path)
    if hosts := sentinels(settings):
        listed = ', '.join(f'{host}:{port}' for host, port in hosts)
        return f'{given(settings, "redis_service_name")} (Sentinels {listed})'
    return f'{value(settings, "redis_host")}:{value(settings, "redis_port")}'


def value(settings: Mapping[str, Any], word: str) -> Any:
    """What holds for a setting, given or not."""
    found = given(settings, word)
    return _DEFAULTS[word] if found is None else found


def given(settings: Mapping[str, Any], word: str) -> Any:
    """A setting; ``None`` if it is not there or empty. PMSS writes ``None`` as text."""
    found = settings.get(word)
    return None if found in ('', 'None', (), []) else found


def speaks_tls(settings: Mapping[str, Any]) -> bool:
    """Whether TLS is spoken, by setting or by URL."""
    return bool(given(settings, 'redis_ssl')) or str(settings.get('redis_url') or '').startswith('rediss://')


def endpoint(settings: Mapping[str, Any]) -> dict[str, Any]:
    if url := given(settings, 'redis_url'):
        parsed = urlparse(str(url))
        if parsed.scheme == 'unix':
            return {'path': unquote(parsed.path)}
        return {'host': parsed.hostname or 'localhost', 'port': parsed.port or 6379}
    if path := given(settings, 'redis_socket'):
        return {'path': str(path)}
    return {'host': str(value(settings, 'redis_host')), 'port': int(value(settings, 'redis_port'))}


def url_part(settings: Mapping[str, Any], part: str) -> str | None:
    url = given(settings, 'redis_url')
    found = getattr(urlparse(str(url)), part) if url else None
    return unquote(found) if found else None


def database(settings: Mapping[str, Any]) -> int:
    """The number of the database, by setting or by URL."""
    if url := given(settings, 'redis_url'):
        parsed = urlparse(str(url))
        found = parse_qs(parsed.query).get('db', [''])[0] or ('' if parsed.scheme == 'unix' else parsed.path.strip('/'))
        if found.isdigit():
            return int(found)
    return int(value(settings, 'redis_db'))


def sentinels(settings: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The addresses; a list, or as text with commas, as PMSS can only have it."""
    written = given(settings, 'redis_sentinels') or ()
    listed = written.split(',') if isinstance(written, str) else written
    found = []
    for item in listed:
        host, _, port = item.strip().rpartition(':')
        found.append((host.strip('[]'), int(port)))
    return found
