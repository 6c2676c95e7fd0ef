"""A Redis server for the rules that need a second process."""

from tests.support.redis_fixtures import redis, redis_server

__all__ = ['redis', 'redis_server']
