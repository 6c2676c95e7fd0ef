"""A Redis server, and a cluster, for whole classes."""

from tests.support.redis_fixtures import redis, redis_nodes, redis_server

__all__ = ['redis', 'redis_nodes', 'redis_server']
