"""Whatever a caller may send has a bound that the OpenAPI description tells."""

from collections.abc import Iterator
from typing import Any

import pytest

from headrace.graphs.http_entry import HttpEntry
from headrace.server.app import _build_api
from headrace.server.lifespan import lifespan
from headrace.settings import Settings


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    settings = Settings()
    return _build_api(settings, HttpEntry(), lifespan(settings=settings)).openapi()


def unbounded(schema: Any, where: str, components: dict[str, Any], seen: set[str]) -> Iterator[str]:
    """Places below ``schema`` that take any number of items, characters, or any number."""
    if not isinstance(schema, dict):
        return
    if (name := schema.get("$ref")) is not None:
        if name not in seen:
            seen.add(name)
            part = name.rsplit("/", 1)[1]
            yield from unbounded(components[part], part, components, seen)
        return
    for way in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from unbounded(way, where, components, seen)
    kind = schema.get("type")
    if kind == "array":
        if "maxItems" not in schema:
            yield f"{where}: a list without maxItems"
        yield from unbounded(schema.get("items"), f"{where}[]", components, seen)
    if kind == "string" and not {"maxLength", "format", "enum", "const"} & set(schema):
        yield f"{where}: a text without maxLength"
    if kind in ("integer", "number"):
        if not {"minimum", "exclusiveMinimum"} & set(schema):
            yield f"{where}: a number without minimum"
        if not {"maximum", "exclusiveMaximum"} & set(schema):
            yield f"{where}: a number without maximum"
    if isinstance(more := schema.get("additionalProperties"), dict):
        if "maxProperties" not in schema:
            yield f"{where}: an object without maxProperties"
        yield from unbounded(more, f"{where}.*", components, seen)
    for name, part in schema.get("properties", {}).items():
        yield from unbounded(part, f"{where}.{name}", components, seen)


def all_unbounded(description: dict[str, Any]) -> list[str]:
    components = description["components"]["schemas"]
    seen: set[str] = set()
    found: list[str] = []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            where = f"{method.upper()} {path}"
            for parameter in operation.get("parameters", ()):
                name = f"{where} {parameter['name']}"
                found += unbounded(parameter["schema"], name, components, seen)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                found += unbounded(content["schema"], where, components, seen)
    return found


def test_all_that_a_caller_sends_is_bounded(description):
    assert all_unbounded(description) == []


def test_the_walk_finds_what_is_not_bounded(description):
    broken = {
        "components": {"schemas": {"A": {"properties": {"b": {"type": "array", "items": {}}}}}},
        "paths": {
            "/a": {
                "post": {
                    "parameters": [{"name": "q", "schema": {"anyOf": [{"type": "string"}]}}],
                    "requestBody": {
                        "content": {"application/json": {"schema": {"$ref": "#/schemas/A"}}}
                    },
                }
            }
        },
    }
    assert all_unbounded(broken) == [
        "POST /a q: a text without maxLength",
        "A.b: a list without maxItems",
    ]
