"""The OpenAPI description of the API, joined with that of the user's app."""

import json
import re
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from headrace.auth.api_keys import HEADER
from headrace.auth.scopes import READ, WRITE
from headrace.edge.reading import only_reads
from headrace.graphs.auth_entry import AuthOpenApiEntry
from headrace.server.field_texts import EXAMPLES, FIELDS

#: The names of the two ways to prove who calls. The pages of the description fill in the first.
_KEY, _BEARER = "ApiKey", "Bearer"
#: Tags of endpoints that need no key, and the one of them that may need one.
_PUBLIC = frozenset({"health", "system"})
_METRICS = "/metrics"

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")

#: The form of a refusal, where an operation has none of its own.
_REFUSAL = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
_UNKNOWN = "Nothing says who calls, or the key or token is not known here."
_FORBIDDEN = {
    READ: "The caller may not do this: its token has no scope of this server, or a handler of the"
    " server refuses the request.",
    WRITE: "The caller may not do this: its key or token has the scope `read` alone (`read_only`),"
    " or a handler of the server refuses the request.",
}


@dataclass(frozen=True, slots=True)
class Proofs:
    """How callers prove who they are.

    :ivar keys: each caller needs a key of headrace, or a token where those are accepted.
    :ivar tokens: tokens of an issuer are accepted.
    :ivar handled: a handler of the user tells who calls.
    """

    keys: bool = False
    tokens: bool = False
    handled: bool = False

    def schemes(self) -> dict[str, Any]:
        """The security schemes of headrace's own keys and tokens."""
        if not self.keys:
            return {}
        key = {"type": "apiKey", "in": "header", "name": HEADER, "description": "An API key."}
        bearer = {"type": "http", "scheme": "bearer"}
        if self.tokens:
            bearer |= {"bearerFormat": "JWT"}
            bearer |= {"description": "A token (JWT) of the issuer, or an API key."}
        else:
            bearer |= {"description": "An API key."}
        return {_KEY: key, _BEARER: bearer}

    def security(self, *scopes: str) -> list[dict[str, list[str]]]:
        """One of these is enough."""
        return [{name: list(scopes)} for name in self.schemes()]


def completed(own: dict[str, Any], proofs: Proofs) -> dict[str, Any]:
    """The API's description with a text for each field, an example of each body, and who may call:
    security, the scope that each operation needs, and the answers to others.
    """
    schemas = own.get("components", {}).get("schemas", {})
    for name, schema in schemas.items():
        for field, told in schema.get("properties", {}).items():
            _describe(told, f"{name}.{field}", field)
    for path, operations in own["paths"].items():
        for method, operation in operations.items():
            _complete_operation(operation)
            if path != _METRICS:
                scope = READ if only_reads(path, [method.upper()]) else WRITE
                _tell_who_may(operation, proofs, scope)
    if proofs.keys:
        own.setdefault("components", {})["securitySchemes"] = proofs.schemes()
        own["security"] = proofs.security()
    return own


def with_security(own: dict[str, Any], entry: AuthOpenApiEntry) -> dict[str, Any]:
    """The description with ``auth.openapi``: how the user's handler tells who calls. A key of
    headrace, where there are keys, is another way.
    """
    schemes = own.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes.update(entry.security_schemes)
    if entry.security:
        own["security"] = [*entry.security, *own.get("security", ())]
    for path, operations in own["paths"].items():
        said = entry.paths.get(path, {})
        for method, operation in operations.items():
            if _PUBLIC.intersection(operation.get("tags", ())):
                operation["security"] = []
            elif method in said:
                operation["security"] = said[method]
            elif "security" in operation:
                operation["security"] = [*entry.security, *operation["security"]]
    return own


def _complete_operation(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        _describe(parameter, parameter["name"])
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None and (example := _example_of(body["schema"])) is not None:
        body["example"] = example


def _tell_who_may(operation: dict[str, Any], proofs: Proofs, scope: str) -> None:
    if not (proofs.keys or proofs.handled):
        return
    if _PUBLIC.intersection(operation.get("tags", ())):
        if proofs.keys:
            operation["security"] = []
        return
    if proofs.keys:
        operation["security"] = proofs.security(scope)
    answers = operation["responses"]
    # A door has a form of its own.
    content = answers.get("4XX", {}).get("content", _REFUSAL)
    told = {"schema": {"type": "string"}, "description": "What the server accepts as proof."}
    answers.setdefault(
        "401",
        {"description": _UNKNOWN, "headers": {"WWW-Authenticate": told}, "content": content},
    )
    answers.setdefault("403", {"description": _FORBIDDEN[scope], "content": content})


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
