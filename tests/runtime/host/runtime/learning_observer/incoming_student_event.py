"""The events of a connection: each goes to every reducer whose scope it has, one after the other."""

from __future__ import annotations

import json
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import learning_observer.settings as settings
import learning_observer.stream_analytics as stream_analytics
import learning_observer.stream_analytics.helpers


async def student_event_pipeline(metadata: Mapping[str, Any]) -> Callable[[Any], Awaitable[list[Any]]]:
    """What processes the events of a connection; an event on which it fails is kept in a file."""
    modules = stream_analytics.reducer_modules(metadata['source'])
    for module in modules:
        module['reducer_partial'] = await module['reducer'](metadata)

    async def pipeline(event: Any) -> list[Any]:
        processed: list[Any] = []
        try:
            for module in modules:
                fields, skip = {}, False
                for field in module['scope']:
                    if isinstance(field, learning_observer.stream_analytics.helpers.EventField):
                        skip = skip or field.event not in event['client']
                        fields[field.event] = event['client'].get(field.event)
                if not skip:
                    processed.append(await module['reducer_partial'](event, fields))
        except Exception:
            keep(event)
            if (settings.settings or {}).get('dev'):
                raise
        return processed

    return pipeline


def keep(event: Any) -> None:
    """Write an event that could not be processed to a file, with the traceback of the error."""
    traceback.print_exc()
    path = Path('logs') / f'critical-error-{datetime.now().isoformat()}-{uuid.uuid4().hex}.tb'
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(event, sort_keys=True, indent=2)
    path.write_text(f'{text}\nTraceback:\n{traceback.format_exc()}')
