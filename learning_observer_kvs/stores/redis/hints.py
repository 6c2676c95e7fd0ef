"""What to do about an error of Redis: chosen by its type and text, and by the settings in use.

Signs are what servers write, and what redis-py and OpenSSL write; each is tried against a real server.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from learning_observer_kvs.stores.redis import redis_py
from learning_observer_kvs.stores.redis.options import (
    TLS_OPTIONS,
    database_of_url,
    endpoint,
    given,
    login_option,
    server_options,
    speaks_tls,
    url_part,
)
from learning_observer_kvs.stores.redis.permissions import CLUSTER_COMMANDS, COMMANDS, allow

Settings = Mapping[str, Any]
_Hint: TypeAlias = str | Callable[[Settings], str]


def hint(error: BaseException, text: str, settings: Settings, *, is_broken: bool) -> str:
    """Return what to do about an error.

    Args:
        error: the error.
        text: its text, in one line.
        settings: all that hold for the connection.
        is_broken: whether it is that of a broken connection.

    Returns:
        A sentence or two.
    """
    for sign, found in _HINTS.items():
        if sign in text:
            return found if isinstance(found, str) else found(settings)
    if isinstance(error, (redis_py.exceptions.ClusterCrossSlotError, redis_py.exceptions.AskError)):
        return 'It is a cluster; set redis_connection.redis_cluster: true.'
    if is_broken or 'cannot be connected' in text:
        return f'Is it running there? See {server_options(settings)}.'
    return 'Look at its log.'


def unreadable_tls_file(settings: Settings) -> str | None:
    """Return what is wrong with the files of certificates that the settings name, which OpenSSL does not name.

    Args:
        settings: all that hold for the connection.

    Returns:
        The message, for the first that cannot be read; ``None`` if all can.
    """
    for option in TLS_OPTIONS if speaks_tls(settings) else ():
        path = given(settings, option)
        try:
            if path is not None:
                open(path, 'rb').close()
        except OSError as error:
            return f'the file {path} cannot be read ({error.strerror}). See redis_connection.{option}.'
    return None


def _password(settings: Settings) -> str:
    password = str(given(settings, 'redis_password') or url_part(settings, 'password') or '')
    if password != password.strip():
        return (
            'The password begins or ends with a blank or a newline, as that of a file does: remove it from '
            f'{login_option(settings)}.'
        )
    return f'Set {login_option(settings)} as the server expects it.'


def _no_password_wanted(settings: Settings) -> str:
    return f'The server wants no password: remove it from {login_option(settings)}, or set requirepass there.'


def _database(settings: Settings) -> str:
    option = 'redis_db' if database_of_url(settings) is None else 'redis_url'
    return f'The server has fewer databases; see redis_connection.{option}.'


def _replica(settings: Settings) -> str:
    return f'This is a replica; name the master in {server_options(settings)}, or use redis_sentinels.'


def _ended(settings: Settings) -> str:
    if speaks_tls(settings) and given(settings, 'redis_ssl_certfile') is None:
        reason = 'If it wants a certificate of its clients, name it in redis_connection.redis_ssl_certfile'
    elif speaks_tls(settings):
        reason = 'If it does not accept the certificate of this client, see redis_connection.redis_ssl_certfile'
    elif 'path' in endpoint(settings):
        return f'It ended the connection. Is it running? See {server_options(settings)}, and its log.'
    elif given(settings, 'redis_url') is not None:
        reason = 'If it speaks TLS, write rediss:// in redis_connection.redis_url'
    else:
        reason = 'If it speaks TLS, set redis_connection.redis_ssl: true'
    return f'It ended the connection. {reason}; else see whether it is running, and its log.'


def _no_connection_in_time(settings: Settings) -> str:
    if speaks_tls(settings):
        option = 'redis_url, which begins with rediss://' if given(settings, 'redis_url') else 'redis_ssl'
        return f'A server that does not speak TLS does not answer either; see redis_connection.{option}.'
    return f'Is it running there, and does no firewall stop this? See {server_options(settings)}.'


def _unknown_host(settings: Settings) -> str:
    return f'There is no host of this name; see {server_options(settings)}.'


def _no_socket(settings: Settings) -> str:
    return f'There is no such file; see {server_options(settings)}, and unixsocket in redis.conf.'


def _nothing_listens(settings: Settings) -> str:
    if 'path' in endpoint(settings):
        return f'No server listens on this socket. Is it running? See {server_options(settings)}.'
    return f'Is it running there? See {server_options(settings)}.'


def _socket_refused(settings: Settings) -> str:
    return f'This user may not use the socket; see unixsocketperm in redis.conf, and {server_options(settings)}.'


_LOADING = 'It is still loading its data; try again in a moment.'

_MEMORY = 'It is at its memory limit; raise maxmemory, or remove data.'

_REFUSED = (
    f'The store needs its keys and {allow(COMMANDS)}; in a cluster also {allow(CLUSTER_COMMANDS)}, in a database other '
    'than 0 also +select. lo-kvs check --live names what is refused.'
)

_NODES_MISSING = 'Some slots have no node; look at CLUSTER INFO on the nodes, and start those that are missing.'

_NOT_REDIS = 'It is not a Redis that answers there; see redis_connection.redis_host and redis_port.'

_WEB_SERVER = 'That is how a web server (HTTP) answers; see redis_connection.redis_port.'

_TLS = 'That is how a server that speaks TLS answers; see redis_connection.redis_ssl.'

_NOT_A_CLUSTER = (
    'It is not a cluster; take redis_connection.redis_cluster out. If it is one, allow this user +cluster|slots.'
)

_CERTIFICATE_FILES = (
    'A certificate, its key or the authorities are not in the file that is named, or do not belong together; see '
    'redis_connection.redis_ssl_ca_certs, redis_ssl_certfile and redis_ssl_keyfile.'
)

_HINTS: dict[str, _Hint] = {
    'without any password configured': _no_password_wanted,
    'NOAUTH': _password,
    'WRONGPASS': _password,
    'invalid username-password': _password,
    'Authentication required': _password,
    'invalid password': _password,
    'o permissions': _REFUSED,
    "can't run this command": _REFUSED,
    'refuses the command': _REFUSED,
    'nknown command': _REFUSED,
    'nknown Redis command': _REFUSED,
    'DENIED': (
        'In protected mode it serves its own machine alone: set a password there and in '
        'redis_connection.redis_password.'
    ),
    'max number of clients': (
        'Raise maxclients in redis.conf, or lower redis_connection.redis_max_connections: each process has as many.'
    ),
    'loading the dataset': _LOADING,
    'CLUSTERDOWN': _NODES_MISSING,
    'Hash slot not served': _NODES_MISSING,
    'not covered by the cluster': _NODES_MISSING,
    'no node of the cluster has slot': _NODES_MISSING,
    'cluster is down': _NODES_MISSING,
    'cluster support disabled': _NOT_A_CLUSTER,
    'Cluster mode is not enabled': _NOT_A_CLUSTER,
    'LOADING': _LOADING,
    'READONLY': _replica,
    'read only replica': _replica,
    'OOM': _MEMORY,
    'maxmemory': _MEMORY,
    'MISCONF': 'It cannot save to its disk; look at its log.',
    'invalid bulk length': 'A value is longer than its proto-max-bulk-len allows.',
    'invalid multibulk length': 'It does not accept so many keys at once; write them in several steps.',
    'DB index': _database,
    'ostname mismatch': (
        'Connect to the host that its certificate is for, or set redis_connection.redis_ssl_check_hostname: false.'
    ),
    'IP address mismatch': (
        'Connect to the host that its certificate is for, or set redis_connection.redis_ssl_check_hostname: false.'
    ),
    'CERTIFICATE_VERIFY_FAILED': (
        'Name the authority that signed its certificate in redis_connection.redis_ssl_ca_certs.'
    ),
    'WRONG_VERSION_NUMBER': 'The server does not speak TLS there; see redis_connection.redis_ssl and redis_port.',
    'X509:': _CERTIFICATE_FILES,
    'PEM lib': _CERTIFICATE_FILES,
    'got "H" as reply type byte': _WEB_SERVER,
    'got "<" as reply type byte': _WEB_SERVER,
    r'got "\x15" as reply type byte': _TLS,
    'as reply type byte': _NOT_REDIS,
    'AF_UNIX path too long': 'The path of a unix socket has at most 107 bytes.',
    f'Error {errno.ENOENT} connecting': _no_socket,
    f'Error {errno.EACCES} connecting': _socket_refused,
    f'Error {errno.ECONNREFUSED} connecting': _nothing_listens,
    'Name or service not known': _unknown_host,
    'nodename nor servname': _unknown_host,
    'No address associated with hostname': _unknown_host,
    'name resolution': _unknown_host,
    'Timeout connecting': _no_connection_in_time,
    'Connection reset by peer': _ended,
    'Broken pipe': _ended,
    '_ALERT_': _ended,
    'Connection closed by server': _ended,
}
"""What is in an error's text, and what to do; the first that fits."""
