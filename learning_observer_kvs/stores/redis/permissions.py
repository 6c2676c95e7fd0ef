"""The commands that a Redis store uses, as rules of an access control list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from learning_observer_kvs.stores.redis.options import database

COMMANDS = ('EVALSHA', 'EVAL', 'GET', 'SET', 'UNLINK', 'PEXPIRE', 'SCAN', 'STRLEN', 'PTTL', 'TYPE')
"""What the stores use, in their scripts and beside them, and the functions of ``redis_connection``."""

CLUSTER_COMMANDS = ('CLUSTER|SLOTS', 'COMMAND', 'ASKING')
"""What the client of a cluster uses to find its nodes and to follow a slot that moves."""

CHANGES_COMMANDS = ('CLIENT|ID', 'CLIENT|TRACKING', 'SUBSCRIBE')
"""What ``store.changes()`` uses besides; those that do not call it need not allow it."""


def rules(settings: Mapping[str, Any], *, clustered: bool) -> str:
    """Return the rules for commands that suffice for the stores of a connection.

    Args:
        settings: all that hold for the connection.
        clustered: whether it is one to a cluster.
    """
    commands = list(COMMANDS)
    if clustered:
        commands += CLUSTER_COMMANDS
    elif database(settings):
        commands.append('SELECT')
    return allow(commands)


def allow(commands: list[str] | tuple[str, ...]) -> str:
    """Return the rules that allow commands.

    Args:
        commands: their names.
    """
    return ' '.join(f'+{command.lower()}' for command in commands)


CHANGES_RULES = f'{allow(CHANGES_COMMANDS)} &__redis__:invalidate'
"""The rules for commands and channels that ``store.changes()`` needs besides."""
