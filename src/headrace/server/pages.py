"""Pages for people: ``/``, ``/docs`` and ``/redoc``; they load nothing from other servers."""

from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from headrace.auth.api_keys import HEADER
from headrace.edge.routing import new_router
from headrace.edge.state import state_of
from headrace.errors import NotFound
from headrace.graphs.http_entry import HttpEntry

#: The files that the pages load. The package fastapi-offline ships Swagger UI and ReDoc.
_ASSETS = Path(str(files("fastapi_offline"))) / "static"
_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}

_ROOT_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>headrace</title></head>
<body><h1>headrace {version}</h1>
<p>LangGraph agents over HTTP.</p>
<ul>{links}</ul></body></html>
"""

#: The page sends the key that a person enters with each request, and stores it nowhere.
_DOCS_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>headrace: API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{root}/docs/assets/swagger-ui.css">
<link rel="icon" href="{root}/docs/assets/favicon.png"></head>
<body>
<form id="key" hidden style="font-family: sans-serif; padding: 2em">
<p>This server asks for an API key.</p>
<input type="password" name="key" autocomplete="off" placeholder="{header}" required>
<button>Show the API</button> <span id="refused"></span></form>
<div id="swagger-ui"></div>
<script src="{root}/docs/assets/swagger-ui-bundle.js"></script>
<script>
const form = document.getElementById("key");
async function show(key) {{
  const headers = key ? {{"{header}": key}} : {{}};
  const answer = await fetch('{root}/openapi.json', {{headers}});
  if (answer.status === 401) {{
    form.hidden = false;
    if (key) document.getElementById("refused").textContent = "This key is not known here.";
    return;
  }}
  form.hidden = true;
  const ui = SwaggerUIBundle({{
    spec: await answer.json(),
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
    onComplete: () => {{ if (key) ui.preauthorizeApiKey("ApiKey", key); }},
  }});
}}
form.addEventListener("submit", (event) => {{
  event.preventDefault();
  show(form.elements.key.value);
}});
show("");
</script></body></html>
"""

root_router = new_router(tag="system", public=True)
docs_router = new_router(tag="system", public=True)


@root_router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """Name the server and link its other pages: HTML for browsers, JSON for others."""
    before = request.scope.get("root_path", "")
    links = {"health": "/health", "ok": "/ok"}
    if "meta" in state_of(request).get(HttpEntry).rooms:
        links = {"docs": "/docs", "openapi": "/openapi.json", "info": "/info", **links}
    links = {name: f"{before}{path}" for name, path in links.items()}
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"name": "headrace", "version": version("headrace"), **links})
    items = "".join(f'<li><a href="{path}">{name}</a></li>' for name, path in links.items())
    return HTMLResponse(_ROOT_PAGE.format(version=version("headrace"), links=items))


@docs_router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Show the API, and let a person try it. If callers need a key, the page asks for one."""
    before = request.scope.get("root_path", "")
    return HTMLResponse(_DOCS_PAGE.format(root=before, header=HEADER))


@docs_router.get("/redoc", include_in_schema=False)
async def redoc(request: Request) -> HTMLResponse:
    """Show the API for reading."""
    before = request.scope.get("root_path", "")
    return get_redoc_html(
        openapi_url=f"{before}/openapi.json",
        title="headrace: API",
        redoc_js_url=f"{before}/docs/assets/redoc.standalone.js",
        redoc_favicon_url=f"{before}/docs/assets/favicon.png",
        with_google_fonts=False,
    )


@docs_router.get("/docs/assets/{name}", include_in_schema=False)
async def asset(name: str) -> Response:
    """Send a file that the pages load."""
    if name not in _TYPES:
        raise NotFound(f"There are {', '.join(_TYPES)}.")
    headers = {"Cache-Control": "public, max-age=86400"}
    return FileResponse(_ASSETS / name, media_type=_TYPES[name], headers=headers)


def page_routers(*, with_docs: bool, with_root: bool) -> list[APIRouter]:
    """
    :param with_docs: serve the pages of the API's description.
    :param with_root: serve ``/``; False beside an app of the user, which may have its own.
    """
    return [*([root_router] if with_root else []), *([docs_router] if with_docs else [])]


def paths_of(routers: list[APIRouter]) -> set[str]:
    """The paths of the pages."""
    routes: list[Any] = [route for router in routers for route in router.routes]
    return {route.path for route in routes}
