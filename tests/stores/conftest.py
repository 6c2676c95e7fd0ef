"""The Redis servers that stores are tried on."""

from tests.support.redis_fixtures import guarded, redis, redis_nodes, redis_server, sentinels, tls, valkey_server

__all__ = ['guarded', 'redis', 'redis_nodes', 'redis_server', 'sentinels', 'tls', 'valkey_server']
