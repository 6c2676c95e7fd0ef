"""Rules for the blocks of the settings other than ``kvs``."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

from learning_observer_kvs.checks.redis import unknown_option as unknown_redis_option
from learning_observer_kvs.config.layers import Settings, option_in
from learning_observer_kvs.config.options import Option, check_value
from learning_observer_kvs.config.raw_text import UnsetVariable
from learning_observer_kvs.config.redaction import display_value
from learning_observer_kvs.config.rows import DEBUG_OPTIONS, PRIVACY_OPTIONS, RETENTION_OPTIONS, Block
from learning_observer_kvs.config.source import BLOCKS, dotted
from learning_observer_kvs.problems import CATALOGUE, Problem, did_you_mean
from learning_observer_kvs.stores.redis import options as redis_options

RUN_MODES = ('dev', 'deploy', 'interactive')

_TOP_LEVEL = (*BLOCKS, 'kvs_plugin', 'kvs_calm_collector')
"""The top-level names that are read; the last two only in a Learning Observer server."""


def check_names(settings: Settings) -> Iterator[Problem]:
    """Find top-level names that look like a misspelling of one that is read.

    Args:
        settings: all settings.

    Yields:
        ``KVS.W005``.
    """
    for name in settings:
        similar = difflib.get_close_matches(str(name).lower(), _TOP_LEVEL, 1, 0.8)
        if name not in _TOP_LEVEL and similar and similar[0] not in settings:
            hint = f'Did you mean {similar[0]!r}?'
            yield Problem('KVS.W005', settings.location(name), dotted((name,)), 'is not read', hint)


def check_run_mode(settings: Settings) -> Iterator[Problem]:
    """Find a run mode that does not exist.

    Args:
        settings: all settings.

    Yields:
        ``KVS.W004``.
    """
    mode = option_in(settings, 'config', 'run_mode')
    if mode is not None and mode not in RUN_MODES:
        location, message = settings.location('config', 'run_mode'), f'is {display_value("run_mode", mode)}'
        hint = did_you_mean(mode, RUN_MODES) or CATALOGUE['KVS.W004'][1]
        yield Problem('KVS.W004', location, 'config.run_mode', message, hint)


def check_redis_connection(block: Block | None) -> Iterator[Problem]:
    """Find what is wrong with each single option of ``redis_connection``.

    Args:
        block: its row, if there is one.

    Yields:
        ``KVS.E014``; ``KVS.W002`` for an option that is unknown and no misspelling.
    """
    yield from _check_options(block, redis_options.OPTIONS, 'KVS.E014', 'KVS.W002')


def check_kvs_debug(block: Block | None) -> Iterator[Problem]:
    """Find what is wrong with each single option of ``kvs_debug``.

    Args:
        block: its row, if there is one.

    Yields:
        ``KVS.E015``.
    """
    yield from _check_options(block, DEBUG_OPTIONS, 'KVS.E015', 'KVS.E015')


def check_privacy(privacy: Block | None, retention: Block | None) -> Iterator[Problem]:
    """Find what is wrong with each single option of ``privacy`` and of ``retention``.

    Args:
        privacy: the row of the one, if there is one.
        retention: the row of the other.

    Yields:
        ``KVS.E030``.
    """
    yield from _check_options(privacy, PRIVACY_OPTIONS, 'KVS.E030', 'KVS.E030')
    yield from _check_options(retention, RETENTION_OPTIONS, 'KVS.E030', 'KVS.E030')


def _check_options(block: Block | None, options: Collection[Option], wrong: str, unknown: str) -> Iterator[Problem]:
    if block is None or block.options is None or isinstance(block.options, UnsetVariable):
        return
    if not isinstance(block.options, Mapping):
        message, hint = f'is {display_value(block.subject, block.options)}', 'Write it as a mapping, one option a line.'
        yield Problem(wrong, block.location, block.subject, message, hint)
    known = {option.name: option for option in options}
    for name, value in block.mapping.items():
        location, subject = block.location_of(name), dotted((block.subject, name))
        if name in known:
            if rejected := check_value(known[name], value):
                yield Problem(wrong, location, subject, *rejected)
        else:
            meant = unknown_redis_option(name) if 'redis_host' in known else None
            meant = meant or did_you_mean(name, known)
            hint = meant or f'Known options: {", ".join(known)}.'
            yield Problem(wrong if meant else unknown, location, subject, 'is unknown', hint)
