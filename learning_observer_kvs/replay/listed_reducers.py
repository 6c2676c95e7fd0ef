"""What a replay wants to know of the reducers that a Learning Observer server lists.

The server is given as its package, ``learning_observer``, which this package does not need to be installed for.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any


def prepare(runtime: Any, paths: Sequence[str]) -> None:
    """Load what listed reducers need in a process that is not the server, and note the fields that they are given.

    Args:
        runtime: the package of the server.
        paths: files of settings, as the server has them for its rulesets; the last one is its configuration file.
    """
    with redirect_stdout(io.StringIO()):  # it prints every setting of a ruleset, passwords too
        runtime.settings.init_pmss_settings(list(paths))
        runtime.settings.load_settings(paths[-1])
        for entry in runtime.module_loader.reducers():
            listed = vars(entry['function']).setdefault('listed', {})  # one function may be listed for several sources
            listed[entry['context']] = _event_fields_of(entry)


async def keys_after(runtime: Any, pipeline: Any, metadata: Mapping[str, Any], event: Mapping[str, Any]) -> list[str]:
    """Return the internal keys of the reducers that the server leaves out where one raises: those that come after it.

    Args:
        runtime: the package of the server.
        pipeline: the reducer that raised.
        metadata: that of the connection.
        event: the event.

    Returns:
        The keys, in the order of the reducers. Left out are reducers that this package does not run, and those that are
        listed with a field that the event lacks, which the server leaves out itself.
    """
    entries = runtime.stream_analytics.REDUCER_MODULES[metadata['source']]
    position = [entry['reducer'] for entry in entries].index(pipeline)
    keys = []
    for entry in entries[position + 1 :]:
        names = _event_fields_of(entry)
        if hasattr(entry['reducer'], 'kvs_plugin') and all(name in event['client'] for name in names):
            process_event = await entry['reducer'](metadata)
            keys.append(process_event.keys({name: event['client'][name] for name in names})[0])
    return keys


def _event_fields_of(entry: Mapping[str, Any]) -> list[str]:
    """The names of the event's fields that the server gives a reducer: they may be others than its decorator's."""
    return [field.event for field in entry['scope'] if hasattr(field, 'event')]
