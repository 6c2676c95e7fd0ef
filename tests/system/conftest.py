"""A Redis server, and a cluster, for whole classes, and a browser's side of the demo server."""

from tests.support.demo import browser
from tests.support.redis_fixtures import redis, redis_nodes, redis_server

__all__ = ['browser', 'redis', 'redis_nodes', 'redis_server']
