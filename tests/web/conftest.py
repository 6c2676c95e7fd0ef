"""A Redis server for pages of its keys."""

from tests.support.redis_fixtures import redis, redis_server

__all__ = ['redis', 'redis_server']
