"""A Redis server for the how-to pages."""

from tests.support.redis_fixtures import redis, redis_server

__all__ = ['redis', 'redis_server']
