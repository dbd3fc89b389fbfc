"""The OpenAPI description of the API, joined with that of the user's app."""

import json
import re
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from headrace.auth.api_keys import HEADER
from headrace.server.field_texts import EXAMPLES, FIELDS

#: The name of the key in the description.
_SCHEME = "ApiKey"
#: Tags of endpoints that need no key.
_PUBLIC = frozenset({"health", "system"})

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


def completed(own: dict[str, Any], *, needs_key: bool) -> dict[str, Any]:
    """The API's description with a text for each field, an example of each body, and the key."""
    schemas = own.get("components", {}).get("schemas", {})
    for name, schema in schemas.items():
        for field, told in schema.get("properties", {}).items():
            _describe(told, f"{name}.{field}", field)
    for operations in own["paths"].values():
        for operation in operations.values():
            _complete_operation(operation, needs_key=needs_key)
    if needs_key:
        scheme = {"type": "apiKey", "in": "header", "name": HEADER}
        own.setdefault("components", {})["securitySchemes"] = {_SCHEME: scheme}
        own["security"] = [{_SCHEME: []}]
    return own


def _complete_operation(operation: dict[str, Any], *, needs_key: bool) -> None:
    for parameter in operation.get("parameters", ()):
        _describe(parameter, parameter["name"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and (example := _example_of(body["schema"])) is not None:
        body["example"] = example
    if needs_key and _PUBLIC.intersection(operation.get("tags", ())):
        operation["security"] = []


def _describe(told: dict[str, Any], *names: str) -> None:
    for name in names:
        if name in FIELDS:
            told.setdefault("description", FIELDS[name])


def _example_of(schema: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return EXAMPLES.get(schema["$ref"].rpartition("/")[2])
    if "items" in schema:
        one = _example_of(schema["items"])
        return None if one is None else [one]
    found = (_example_of(form) for form in schema.get("anyOf", ()))
    return next((example for example in found if example is not None), None)


def described(app: Starlette) -> dict[str, Any]:
    """The app's own description. For an app that has none: its paths."""
    if isinstance(app, FastAPI):
        return app.openapi()
    paths: dict[str, Any] = {}
    for route in app.routes:
        if isinstance(route, Route) and route.include_in_schema:
            path = _PARAMETER.sub(r"{\1}", route.path)
            for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
                paths.setdefault(path, {})[method.lower()] = _operation(route)
    return {"paths": paths}


def _operation(route: Route) -> dict[str, Any]:
    lines = (route.endpoint.__doc__ or "").strip().splitlines()
    return {
        "summary": lines[0] if lines else route.name,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(route.path)
        ],
        "responses": {"200": {"description": "Successful Response"}},
    }


def joined(ours: dict[str, Any], app_schema: dict[str, Any]) -> dict[str, Any]:
    """Both descriptions in one. If both have a path, ours is kept; if both have a schema of one
    name, both are kept.
    """
    components = ours.get("components", {})
    renamed = {
        name: f"App_{name}"
        for name, schema in app_schema.get("components", {}).get("schemas", {}).items()
        if components.get("schemas", {}).get(name, schema) != schema
    }
    app_schema = _with_names(app_schema, renamed)
    parts = {**app_schema.get("components", {}), **components}
    for kind in parts:
        parts[kind] = {**app_schema.get("components", {}).get(kind, {}), **components.get(kind, {})}
    return {**ours, "paths": {**app_schema.get("paths", {}), **ours["paths"]}, "components": parts}


def _with_names(description: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    if not names:
        return description
    text = json.dumps(description)
    for old, new in names.items():
        text = text.replace(f'"#/components/schemas/{old}"', f'"#/components/schemas/{new}"')
    told: dict[str, Any] = json.loads(text)
    schemas = told["components"]["schemas"]
    told["components"]["schemas"] = {names.get(name, name): one for name, one in schemas.items()}
    return told
