"""What the first screen offers to paste."""

import json
import shlex
from typing import Any

import pytest

from headrace.cli.examples import built_in_examples, examples

URL = "http://127.0.0.1:2024"


def pasted(line: str) -> tuple[str, dict[str, Any]]:
    """The address and the body, as a shell would hand them to curl."""
    words = shlex.split(line)
    return words[2], json.loads(words[words.index("-d") + 1])


def schema(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"properties": properties, "required": list(required)}


def test_a_graph_with_messages_is_spoken_to_through_chat():
    (line,) = examples(URL, "", "agent", schema(messages={"type": "array"}, other={}))
    url, body = pasted(line)
    assert url == f"{URL}/chat"
    assert body == {"message": "Hello!", "thread_id": "first"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            schema(("topic", "n"), topic={"type": "string"}, n={"type": "integer"}, x={}),
            {"topic": "hello", "n": 1},
        ),
        (schema(topic={"type": "string"}, n={"type": "integer"}), {"topic": "hello"}),
        (schema(("a",), a={"anyOf": [{"$ref": "#"}, {"type": "number"}]}), {"a": 1.5}),
        (schema(("a",), a={"enum": ["it's", "b"]}), {"a": "it's"}),
        (schema(("a",), a={"default": None}), {"a": None}),
        (schema(("a",), a=True), {"a": "hello"}),
        ({"type": "integer"}, {}),
        (None, {}),
    ],
)
def test_another_graph_gets_what_its_schema_wants(given, wanted):
    (line,) = examples(URL, " -H 'x-api-key: YOUR-KEY'", "my graph", given)
    url, body = pasted(line)
    assert url == f"{URL}/runs/wait"
    assert body == {"assistant_id": "my graph", "input": wanted}
    assert "x-api-key: YOUR-KEY" in line


def test_the_built_in_graph_shows_its_memory():
    bodies = [pasted(line)[1] for line in built_in_examples(URL, "")]
    assert [body["thread_id"] for body in bodies] == ["first", "first", "second"]
