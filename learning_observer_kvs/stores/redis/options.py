"""The ``redis_*`` options, and what they say together: where a Redis is, and how it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from learning_observer_kvs.config.options import Option
from learning_observer_kvs.config.redaction import REDACTED, without_credentials

OPTIONS: tuple[Option, ...] = (
    Option('redis_host', 'host', default='localhost', doc='the host of the server, or of any node of a cluster.'),
    Option('redis_port', 'port', default=6379, doc='its port.'),
    Option('redis_socket', 'path or null', doc='the path of its unix socket, instead of host and port.'),
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
        'path or null',
        doc='a file of the authorities to trust, for a certificate that those of the system did not sign.',
    ),
    Option('redis_ssl_certfile', 'path or null', doc='the certificate of this client, where the server wants one.'),
    Option('redis_ssl_keyfile', 'path or null', doc='the key of that certificate, if it is in another file.'),
    Option(
        'redis_ssl_check_hostname',
        'boolean',
        default=True,
        doc='whether the certificate must be for the host that is connected to.',
    ),
    Option('redis_connect_timeout', 'seconds', default=2, doc='seconds to wait for a connection.'),
    Option('redis_timeout', 'seconds', default=5, doc='seconds to wait for an answer, or for a free connection.'),
    Option(
        'redis_max_connections',
        'count',
        default=20,
        doc='how many connections are open at once, in a cluster to each node; more calls wait.',
    ),
)
"""The options of the ``redis_connection`` block, and of the block of a Redis store with another connection."""

_DEFAULTS = {option.name: option.default for option in OPTIONS}

ADDRESS_OPTIONS = {
    'redis_url': ('redis_url',),
    'redis_socket': ('redis_socket',),
    'redis_sentinels': ('redis_sentinels', 'redis_service_name'),
    'redis_host': ('redis_host', 'redis_port'),
}
"""Each way to say where the server is, and its options."""

TLS_OPTIONS = ('redis_ssl_ca_certs', 'redis_ssl_certfile', 'redis_ssl_keyfile')
"""Options that mean something with TLS only."""


def overriding(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of another block on top.

    A block that says where another server is replaces the whole address, and a URL with a user or a password both of
    them.

    Args:
        base: the settings below.
        own: the block on top.
    """
    kept = dict(base)
    named = {way for way, options in ADDRESS_OPTIONS.items() if any(given(own, name) is not None for name in options)}
    for way, options in ADDRESS_OPTIONS.items():
        if named and way not in named:
            for name in options:
                kept.pop(name, None)
    host = str(given(own, 'redis_url') or '').partition('://')[2].partition('/')[0]
    if '@' in host:
        for name in ('redis_username', 'redis_password'):
            kept.pop(name, None)
    return {**kept, **own}


def location_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the address and database as they are written: equal for settings that name the same server alike.

    Args:
        settings: all that hold for a connection.
    """
    names = [*(name for options in ADDRESS_OPTIONS.values() for name in options), 'redis_db']
    return tuple(str(value(settings, name)) for name in names)


def address(settings: Mapping[str, Any]) -> str:
    """Return where the server is, for messages, without a password.

    Args:
        settings: all that hold for a connection.
    """
    if url := given(settings, 'redis_url'):
        return without_credentials(str(url)).replace(f'{REDACTED}@', '')
    if path := given(settings, 'redis_socket'):
        return without_credentials(str(path))
    if hosts := sentinels(settings):
        listed = ', '.join(f'{without_credentials(host)}:{port}' for host, port in hosts)
        return f'{without_credentials(str(given(settings, "redis_service_name")))} (Sentinels {listed})'
    return f'{without_credentials(str(value(settings, "redis_host")))}:{value(settings, "redis_port")}'


def value(settings: Mapping[str, Any], name: str) -> Any:
    """Return what holds for an option: the setting, or else the default.

    Args:
        settings: all that hold for a connection.
        name: the option.
    """
    found = given(settings, name)
    return _DEFAULTS[name] if found is None else found


def given(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting; ``None`` if it is not there or empty. PMSS writes ``None`` as text.

    Args:
        settings: some settings.
        name: the option.
    """
    found = settings.get(name)
    return None if found in ('', 'None', (), []) else found


def speaks_tls(settings: Mapping[str, Any]) -> bool:
    """Return whether TLS is spoken, by option or by URL.

    Args:
        settings: all that hold for a connection.
    """
    return bool(given(settings, 'redis_ssl')) or str(settings.get('redis_url') or '').startswith('rediss://')


def endpoint(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return where to connect to, without Sentinels: ``host`` and ``port``, or ``path`` of a socket.

    Args:
        settings: all that hold for a connection.
    """
    if url := given(settings, 'redis_url'):
        parsed = urlparse(str(url))
        if parsed.scheme == 'unix':
            return {'path': unquote(parsed.path)}
        return {'host': parsed.hostname or 'localhost', 'port': parsed.port or 6379}
    if path := given(settings, 'redis_socket'):
        return {'path': str(path)}
    return {'host': str(value(settings, 'redis_host')), 'port': int(value(settings, 'redis_port'))}


def url_part(settings: Mapping[str, Any], part: str) -> str | None:
    """Return a part of the URL; ``None`` if there is no URL, or it does not have that part.

    Args:
        settings: all that hold for a connection.
        part: ``username`` or ``password``.
    """
    url = given(settings, 'redis_url')
    found = getattr(urlparse(str(url)), part) if url else None
    return unquote(found) if found else None


def user(settings: Mapping[str, Any]) -> str | None:
    """Return the user to log in as, by option or by URL; ``None`` for the server's default.

    Args:
        settings: all that hold for a connection.
    """
    return given(settings, 'redis_username') or url_part(settings, 'username')


def server_options(settings: Mapping[str, Any]) -> str:
    """Return the names of the options that say where the server is, for messages.

    Args:
        settings: all that hold for a connection.
    """
    for way, names in ADDRESS_OPTIONS.items():
        if way != 'redis_host' and given(settings, way) is not None:
            return f'redis_connection.{names[0]}'
    return 'redis_connection.redis_host and redis_port'


def login_option(settings: Mapping[str, Any]) -> str:
    """Return the names of the options that say with which user and password to log in, for messages.

    Args:
        settings: all that hold for a connection.
    """
    if (url_part(settings, 'password') or url_part(settings, 'username')) and not given(settings, 'redis_password'):
        return 'redis_connection.redis_url'
    return 'redis_connection.redis_password (and redis_username)'


def database(settings: Mapping[str, Any]) -> int:
    """Return the number of the database, by option or by URL.

    Args:
        settings: all that hold for a connection.
    """
    found = database_of_url(settings)
    return int(value(settings, 'redis_db')) if found is None else found


def database_of_url(settings: Mapping[str, Any]) -> int | None:
    """Return the number of the database that the URL names; ``None`` if there is no URL, or it names none.

    Args:
        settings: all that hold for a connection.
    """
    if url := given(settings, 'redis_url'):
        parsed = urlparse(str(url))
        found = parse_qs(parsed.query).get('db', [''])[0] or ('' if parsed.scheme == 'unix' else parsed.path.strip('/'))
        if found.isdecimal():
            return int(found)
    return None


def sentinels(settings: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the host and port of each Sentinel; none where the settings name none.

    Args:
        settings: all that hold for a connection; ``redis_sentinels`` is a list, or a text with commas, as PMSS has it.
    """
    written = given(settings, 'redis_sentinels') or ()
    listed = written.split(',') if isinstance(written, str) else written
    found = []
    for item in listed:
        host, _, port = item.strip().rpartition(':')
        found.append((host.strip('[]'), int(port)))
    return found
