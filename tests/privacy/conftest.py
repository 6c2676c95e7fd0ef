"""The Redis servers that a student is erased from."""

from tests.support.redis_fixtures import redis, redis_server

__all__ = ['redis', 'redis_server']
