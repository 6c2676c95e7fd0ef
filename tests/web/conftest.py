"""A Redis server for pages of its keys, the settings of pages, and a browser's side of the demo server."""

from tests.support.debug_pages import refused, settings
from tests.support.demo import browser
from tests.support.redis_fixtures import redis, redis_server

__all__ = ['browser', 'redis', 'redis_server', 'refused', 'settings']
