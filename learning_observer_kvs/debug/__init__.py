"""``/debug/kvs``: stores, keys and values as pages for a browser, or as JSON."""

from learning_observer_kvs.debug.access import Authorize
from learning_observer_kvs.debug.routes import Pages

__all__ = ['Authorize', 'Pages']
