"""Static checks: rows in, every problem out, each with its location, message and hint. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from learning_observer_kvs.checks import blocks, redis, stores
from learning_observer_kvs.config.rows import Configuration
from learning_observer_kvs.problems import Problem
from learning_observer_kvs.stores.base import Store

MAX_STORES = 1000
"""Stores of a configuration. Each has files or connections of its own."""


def check(
    configuration: Configuration,
    types: Mapping[str, type[Store]],
    reserved: Collection[str],
    *,
    default_required: bool = True,
) -> list[Problem]:
    """Check a configuration.

    Args:
        configuration: the rows.
        types: the store types that exist, by the word for ``type:``.
        reserved: names that a store cannot have.
        default_required: whether a configuration without a default store is an error.

    Returns:
        Every problem, in the order of the files.
    """
    settings, rows = configuration.settings, configuration.stores
    if len(rows) > MAX_STORES:
        message = f'has {len(rows):,} stores; {MAX_STORES:,} are allowed'
        hint = 'Keep what is alike in one store, under keys that tell it apart.'
        return [Problem('KVS.E002', settings.location('kvs'), 'kvs', message, hint)]
    found = [
        *blocks.check_names(settings),
        *blocks.check_run_mode(settings),
        *stores.check_block(settings),
        *stores.check_pairs(rows),
        *stores.check_names(rows, reserved),
        *stores.check_duplicate_names(rows),
        *(stores.check_default(configuration) if default_required else ()),
        *stores.check_shapes(rows),
        *stores.check_types(rows, types, configuration.rejected_types),
        *stores.check_required_options(rows, types),
        *stores.check_values(rows, types),
        *stores.check_option_names(rows, types),
        *stores.check_unused_options(rows, types),
        *stores.check_paths(configuration),
        *redis.check_prefixes(configuration),
        *redis.check_contradictions(configuration),
        *blocks.check_redis_connection(configuration.redis_connection),
        *blocks.check_kvs_debug(configuration.kvs_debug),
        *blocks.check_privacy(configuration.privacy, configuration.retention),
    ]
    in_order = sorted(found, key=_position_in(configuration))  # decides where the locations have no lines
    return sorted([*settings.problems, *in_order], key=_file_and_line)


def _file_and_line(problem: Problem) -> tuple[str, int]:
    file, _, line = problem.location.rpartition(':')
    return (file, int(line)) if line.isdecimal() else (problem.location, 0)


def _position_in(configuration: Configuration) -> Callable[[Problem], int]:
    """Return a sort key: the position of a problem's subject, or of the block it belongs in, among all rows."""
    subjects = [
        subject
        for block in configuration.blocks
        for subject in (block.subject, *(f'{block.subject}.{option}' for option in block.mapping))
    ]
    positions = {subject: position for position, subject in enumerate(subjects)}

    def position(problem: Problem) -> int:
        subject = problem.subject
        while subject and subject not in positions:
            subject = subject.rpartition('.')[0]
        return positions.get(subject, -1)

    return position
