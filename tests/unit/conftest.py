"""A store that tests watch."""

from tests.support.watched import watched

__all__ = ['watched']
