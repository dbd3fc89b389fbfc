"""The OpenAPI description, read as a newcomer reads it."""

import re

import pytest

from headrace.graphs.http_entry import HttpEntry
from headrace.server.app import _build_api
from headrace.server.field_texts import EXAMPLES, FIELDS
from headrace.server.lifespan import lifespan
from headrace.settings import Settings

#: What a summary may begin with.
VERBS = re.compile(
    "(Cancel|Change|Choose|Copy|Count|Create|Delete|Describe|Draw|List|Make|Measure|Merge|Read"
    "|Report|Run|Send|Show|Stop|Stream|Tell|Wait|Write) "
)
#: Words that mean nothing to somebody who reads this one operation.
VAGUE = re.compile(r"\b(the same|its|theirs|of those|whoever)\b", re.IGNORECASE)


def described(keys: str = "") -> dict:
    settings = Settings.model_validate({"api_keys": keys} if keys else {})
    return _build_api(settings, HttpEntry(), lifespan(settings=settings)).openapi()


@pytest.fixture(scope="module")
def description():
    return described()


@pytest.fixture(scope="module")
def operations(description):
    return {
        f"{method.upper()} {path}": operation
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def test_each_operation_says_what_it_does(operations):
    assert len(operations) > 55
    for name, operation in operations.items():
        assert VERBS.match(operation["summary"]), name
        for text in (operation["summary"], operation.get("description", "")):
            assert not VAGUE.search(text), (name, text)
    summaries = [operation["summary"] for operation in operations.values()]
    assert len(set(summaries)) == len(summaries)


def test_each_field_and_parameter_is_described(description, operations):
    for name, schema in description["components"]["schemas"].items():
        for field, told in schema.get("properties", {}).items():
            assert told.get("description"), f"{name}.{field}: add it to server/field_texts.py"
    for name, operation in operations.items():
        for parameter in operation.get("parameters", ()):
            where = f"{name} {parameter['name']}: add it to server/field_texts.py"
            assert parameter.get("description"), where


def test_each_body_has_an_example_that_its_schema_takes(description, operations):
    from headrace.assistants import schemas as assistants
    from headrace.chat import schemas as chat
    from headrace.runs import schemas as runs
    from headrace.states import schemas as states
    from headrace.store_items import schemas as items
    from headrace.threads import schemas as threads

    bodies = {
        name: operation["requestBody"]["content"]["application/json"]
        for name, operation in operations.items()
        if "requestBody" in operation
    }
    assert len(bodies) > 20
    for name, body in bodies.items():
        assert body.get("example"), f"{name}: add one to server/field_texts.py"
    for name, example in EXAMPLES.items():
        rooms = (assistants, chat, runs, items, threads, states)
        (kind,) = {getattr(room, name) for room in rooms if hasattr(room, name)}
        given = kind.model_validate(example).model_dump(mode="json", exclude_unset=True)
        # Nothing of it is a field that is ignored.
        assert given.keys() == example.keys(), name


def test_no_text_is_left_of_a_field_that_is_gone(description):
    used = set()
    for name, schema in description["components"]["schemas"].items():
        used |= set(schema.get("properties", {}))
        used |= {f"{name}.{field}" for field in schema.get("properties", {})}
    for methods in description["paths"].values():
        for operation in methods.values():
            used |= {parameter["name"] for parameter in operation.get("parameters", ())}
    # FastAPI's own answer to a bad body had fewer of them once.
    fastapis = {"ctx", "input", "ValidationError.input", "ValidationError.ctx"}
    assert set(FIELDS) - fastapis <= used


def test_the_key_is_described_where_one_is_needed(description):
    assert "securitySchemes" not in description["components"]
    closed = described("k" * 32)
    scheme = {"type": "apiKey", "in": "header", "name": "x-api-key"}
    assert closed["components"]["securitySchemes"] == {"ApiKey": scheme}
    assert closed["security"] == [{"ApiKey": []}]
    for path in ("/ok", "/livez", "/health", "/metrics", "/info"):
        assert closed["paths"][path]["get"]["security"] == [], path
    assert "security" not in closed["paths"]["/threads"]["post"]
