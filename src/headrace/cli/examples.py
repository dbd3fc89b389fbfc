"""Example requests to paste that work for the present graph."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

#: The built-in graph shows a conversation, and a memory across conversations.
_MESSAGES = (
    ("Remember that I like green tea.", "first"),
    ("What did I just say?", "first"),
    ("What do you remember?", "second"),
)

_VALUES: Mapping[str, Any] = {
    "string": "hello",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
}


def built_in_examples(url: str, key: str) -> list[str]:
    """Three turns with the built-in graph."""
    return [
        _curl(f"{url}/chat", key, {"message": said, "thread_id": thread, "user_id": "ada"})
        for said, thread in _MESSAGES
    ]


def examples(
    url: str, key: str, graph_id: str, input_schema: Mapping[str, Any] | None
) -> list[str]:
    """A request for the graph behind /chat: through /chat, unless the graph takes no messages.

    :param input_schema: JSON schema of the graph's input; None if it is not known.
    """
    properties = (input_schema or {}).get("properties") or {}
    if "messages" in properties:
        return [_curl(f"{url}/chat", key, {"message": "Hello!", "thread_id": "first"})]
    required = (input_schema or {}).get("required") or ()
    # If no field is required, one must be given all the same, or the graph does not run.
    names = [name for name in properties if name in required] or list(properties)[:1]
    given = {name: _value(properties[name]) for name in names}
    return [_curl(f"{url}/runs/wait", key, {"assistant_id": graph_id, "input": given})]


def _value(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return "hello"
    if "default" in schema:
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    for form in schema.get("anyOf") or ():
        if isinstance(form, Mapping) and form.get("type") in _VALUES:
            return _VALUES[form["type"]]
    kind = schema.get("type")
    return _VALUES.get(kind, "hello") if isinstance(kind, str) else "hello"


def _curl(url: str, key: str, body: Mapping[str, Any]) -> str:
    sent = shlex.quote(json.dumps(body))
    return f"  curl -s {url}{key} -H 'Content-Type: application/json' -d {sent}"
