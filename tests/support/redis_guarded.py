"""Redis servers that want a password, or a certificate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme

from learning_observer_kvs.stores.redis.permissions import COMMANDS, allow
from tests.support.redis_server import REDIS, RedisServer

PASSWORD = 'p@ss:word/'
"""The password of the default user. The user ``class`` has the password ``for class`` and all rights; the user
``limited`` has the password ``less`` and the rights that the documentation names."""


@contextmanager
def guarded_server() -> Iterator[RedisServer]:
    """Run a server with three users and their passwords."""
    users = ['--user', 'class', 'on', '>for class', '~*', '&*', '+@all']
    users += ['--user', 'limited', 'on', '>less', '~*', *allow(COMMANDS).split(), '+select']
    with RedisServer('--requirepass', PASSWORD, *users) as server:
        yield server


@contextmanager
def tls_server(folder: Path) -> Iterator[dict[str, Any]]:
    """Run a server that speaks TLS only and wants a client's certificate.

    Args:
        folder: where the certificates are made.

    Yields:
        The settings that reach it.
    """
    authority = trustme.CA()
    trusted = str(folder / 'authority.pem')
    authority.cert_pem.write_to_path(trusted)
    files: dict[str, tuple[str, str]] = {}
    for name in ('127.0.0.1', 'client.test'):
        issued = authority.issue_cert(name)
        files[name] = certificate, key = str(folder / f'{name}.pem'), str(folder / f'{name}.key')
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
    certificate, key = files['127.0.0.1']
    options = ('--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', trusted)
    # A Valkey that comes as a wheel is built without TLS.
    with RedisServer(*options, '--tls-auth-clients', 'yes', tls=True, program=REDIS) as server:
        certificate, key = files['client.test']
        yield {
            'redis_host': '127.0.0.1',
            'redis_port': server.port,
            'redis_ssl': True,
            'redis_ssl_ca_certs': trusted,
            'redis_ssl_certfile': certificate,
            'redis_ssl_keyfile': key,
        }
