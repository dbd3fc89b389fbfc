"""JSON answers that hold values of graphs, which only headrace's encoder knows how to write."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from headrace.events.encoding import encode_json


def json_response(value: Any, *, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode_json(value), headers=dict(headers or {}), media_type="application/json")
