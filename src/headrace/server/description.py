"""The OpenAPI description: the API's, and with it that of an app of the user's."""

import json
import re
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from headrace.edge.head import as_get, without_body

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")


class DescribedApi(FastAPI):
    """The API; ``beside`` is what is served with it."""

    beside: Starlette | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await super().__call__(scope, receive, send)
            return
        with as_get(scope):
            await super().__call__(scope, receive, without_body(send))

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            own = super().openapi()
            if self.beside is not None:
                self.openapi_schema = joined(own, described(self.beside))
        return super().openapi()


def described(app: Starlette) -> dict[str, Any]:
    """What the app says of itself; of one that says nothing, its paths."""
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


def joined(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Both; of two paths of one name ours, of two schemas of one name both."""
    components = ours.get("components", {})
    renamed = {
        name: f"App_{name}"
        for name, schema in theirs.get("components", {}).get("schemas", {}).items()
        if components.get("schemas", {}).get(name, schema) != schema
    }
    theirs = _with_names(theirs, renamed)
    parts = {**theirs.get("components", {}), **components}
    for kind in parts:
        parts[kind] = {**theirs.get("components", {}).get(kind, {}), **components.get(kind, {})}
    return {**ours, "paths": {**theirs.get("paths", {}), **ours["paths"]}, "components": parts}


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
