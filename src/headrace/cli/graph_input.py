"""What a graph takes as input, asked of the server that serves it."""

import contextlib
import http.client
import json
from typing import Any
from urllib.parse import quote

from headrace.auth.api_keys import HEADER
from headrace.settings import Settings

_TIMEOUT_SECONDS = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - read, not bound


def input_schema(settings: Settings, prefix: str, graph_id: str) -> dict[str, Any] | None:
    """The JSON schema of the graph's input; None where the server does not tell it.

    :param prefix: what stands before every path.
    """
    keys = settings.accepted_api_keys
    headers = {HEADER: keys[0]} if keys else {}
    path = f"{prefix}/assistants/{quote(graph_id, safe='')}/schemas"
    host = _EVERYWHERE.get(settings.host, settings.host)
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        connection = http.client.HTTPConnection(host, settings.port, timeout=_TIMEOUT_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            told = json.loads(connection.getresponse().read())
        schema = told.get("input_schema")
        return schema if isinstance(schema, dict) else None
    return None
