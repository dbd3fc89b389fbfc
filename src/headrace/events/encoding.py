"""Values of graphs as the JSON that clients of the LangGraph API expect."""

from typing import Any

from headrace.db.jsonb import load_jsonb
from headrace.json_text import json_text


def encode_json(value: Any) -> bytes:
    """JSON of anything a graph's state may hold; never raises (docs/values.md)."""
    return json_text(value)


def storable(value: Any) -> Any:
    """The value as Postgres's ``jsonb`` can hold it: plain JSON; never raises."""
    return load_jsonb(json_text(value))
