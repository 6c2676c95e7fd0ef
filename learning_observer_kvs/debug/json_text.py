"""The data of a view as JSON. It is made in a thread, because values may be large."""

from __future__ import annotations

import json
from typing import Any

from learning_observer_kvs import json_codec
from learning_observer_kvs.errors import InvalidValue


def as_json(data: Any) -> bytes:
    """Return the data of a view, or any JSON value, as JSON.

    Args:
        data: the data.

    Returns:
        The text in UTF-8; what Python's ``json`` writes and JSON does not know (``NaN``) is written likewise.
    """
    try:
        return json_codec.encode(data)
    except InvalidValue:  # NaN, or deeper than this package writes; another program may have stored that
        # A lone surrogate has no UTF-8; it is shown as JSON escapes it.
        return json.dumps(data, ensure_ascii=False).encode('utf-8', 'backslashreplace')
