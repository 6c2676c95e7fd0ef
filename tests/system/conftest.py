"""A Redis server for whole classes."""

from tests.support.redis_fixtures import redis, redis_server

__all__ = ['redis', 'redis_server']
