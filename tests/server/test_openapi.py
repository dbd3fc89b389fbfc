"""The OpenAPI description, read as a newcomer reads it."""

import re

import pytest

from headrace.edge.reading import READING_POSTS
from headrace.graphs.auth_entry import AuthOpenApiEntry
from headrace.graphs.http_entry import HttpEntry
from headrace.server.app import _build_api
from headrace.server.field_texts import EXAMPLES, FIELDS
from headrace.server.lifespan import lifespan
from headrace.settings import Settings
from tests.support.issuer import public_pem

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
    from headrace.crons import schemas as crons
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
        rooms = (assistants, chat, crons, runs, items, threads, states)
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


def test_the_ways_to_prove_who_calls_are_described_where_one_is_needed(description):
    assert "securitySchemes" not in description["components"]
    closed = described("k" * 32)
    assert closed["components"]["securitySchemes"] == {
        "ApiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "x-api-key",
            "description": "An API key.",
        },
        "Bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    }
    assert closed["security"] == [{"ApiKey": []}, {"Bearer": []}]
    for path in ("/ok", "/livez", "/health", "/info"):
        assert closed["paths"][path]["get"]["security"] == [], path
    assert "security" not in closed["paths"]["/metrics"]["get"]


def test_tokens_are_described_where_they_are_accepted():
    tokens = {
        "jwt_issuer": "https://issuer.test/",
        "jwt_audience": "agents",
        "jwt_algorithms": "ES256",
        "jwt_public_key": public_pem("ES256").decode(),
    }
    settings = Settings.model_validate({"auth": tokens})
    told = _build_api(settings, HttpEntry(), lifespan(settings=settings)).openapi()
    bearer = told["components"]["securitySchemes"]["Bearer"]
    assert bearer["bearerFormat"] == "JWT"
    assert "token" in bearer["description"]


def test_each_operation_tells_the_scope_that_it_needs_and_how_it_refuses():
    for path, methods in described("k" * 32)["paths"].items():
        for method, operation in methods.items():
            if operation.get("security") == [] or path == "/metrics":
                assert "401" not in operation["responses"], path
                continue
            reads = method == "get" or path in READING_POSTS
            scope = "read" if reads else "write"
            assert operation["security"] == [{"ApiKey": [scope]}, {"Bearer": [scope]}], path
            refusals = operation["responses"]
            assert "WWW-Authenticate" in refusals["401"]["headers"], path
            for status in ("401", "403"):
                assert refusals[status]["content"] == refusals["4XX"]["content"], path
            assert ("read_only" in refusals["403"]["description"]) is not reads, path


def test_a_server_that_asks_nobody_describes_no_such_answers(operations):
    for name, operation in operations.items():
        assert not {"401", "403"} & set(operation["responses"]), name
        assert "security" not in operation, name


def test_schemes_of_a_handler_stand_beside_keys_at_each_operation():
    settings = Settings.model_validate({"api_keys": "k" * 32})
    api = _build_api(settings, HttpEntry(), lifespan(settings=settings))
    api.security = AuthOpenApiEntry.model_validate(
        {
            "securitySchemes": {"cookie": {"type": "apiKey", "in": "cookie", "name": "who"}},
            "security": [{"cookie": []}],
            "paths": {"/threads": {"post": [{"cookie": ["admin"]}]}},
        }
    )
    told = api.openapi()
    beside = [{"cookie": []}, {"ApiKey": ["read"]}, {"Bearer": ["read"]}]
    assert told["paths"]["/threads/{thread_id}"]["get"]["security"] == beside
    assert told["paths"]["/threads"]["post"]["security"] == [{"cookie": ["admin"]}]
    assert set(told["components"]["securitySchemes"]) == {"ApiKey", "Bearer", "cookie"}
