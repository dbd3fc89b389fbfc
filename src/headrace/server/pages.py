"""Pages for people: ``/``, ``/docs`` and ``/redoc``; they load nothing from other servers."""

import hashlib
from base64 import b64encode
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
from headrace.settings import Settings

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
<script>{script}</script></body></html>
"""

#: ``HEADER`` and ``ROOT`` are replaced.
_DOCS_SCRIPT = """
const form = document.getElementById("key");
async function show(key) {
  const headers = key ? {"HEADER": key} : {};
  const answer = await fetch('ROOT/openapi.json', {headers});
  if (answer.status === 401) {
    form.hidden = false;
    if (key) document.getElementById("refused").textContent = "This key is not known here.";
    return;
  }
  form.hidden = true;
  const ui = SwaggerUIBundle({
    spec: await answer.json(),
    dom_id: "#swagger-ui",
    deepLinking: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
    onComplete: () => { if (key) ui.preauthorizeApiKey("ApiKey", key); },
  });
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  show(form.elements.key.value);
});
show("");
"""

#: What the pages may load: their own files, and what Swagger UI and ReDoc make by themselves.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

root_router = new_router(tag="system", public=True)
docs_router = new_router(tag="system", public=True)


@root_router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """Name the server and link its other pages: HTML for browsers, JSON for others."""
    before = request.scope.get("root_path", "")
    links = {"health": "/health", "ok": "/ok"}
    if "meta" in state_of(request).get(HttpEntry).rooms:
        links = {"info": "/info", **links}
        if state_of(request).get(Settings).docs_served:
            links = {"docs": "/docs", "openapi": "/openapi.json", **links}
    links = {name: f"{before}{path}" for name, path in links.items()}
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"name": "headrace", "version": version("headrace"), **links})
    items = "".join(f'<li><a href="{path}">{name}</a></li>' for name, path in links.items())
    page = _ROOT_PAGE.format(version=version("headrace"), links=items)
    return HTMLResponse(page, headers=_policy())


@docs_router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """Show the API, and let a person try it. If callers need a key, the page asks for one."""
    before = request.scope.get("root_path", "")
    script = _DOCS_SCRIPT.replace("HEADER", HEADER).replace("ROOT", before)
    page = _DOCS_PAGE.format(root=before, header=HEADER, script=script)
    return HTMLResponse(page, headers=_policy(script))


@docs_router.get("/redoc", include_in_schema=False)
async def redoc(request: Request) -> HTMLResponse:
    """Show the API for reading."""
    before = request.scope.get("root_path", "")
    page = get_redoc_html(
        openapi_url=f"{before}/openapi.json",
        title="headrace: API",
        redoc_js_url=f"{before}/docs/assets/redoc.standalone.js",
        redoc_favicon_url=f"{before}/docs/assets/favicon.png",
        with_google_fonts=False,
    )
    page.headers.update(_policy())
    return page


@docs_router.get("/docs/assets/{name}", include_in_schema=False)
async def asset(name: str) -> Response:
    """Send a file that the pages load."""
    if name not in _TYPES:
        raise NotFound(f"There are {', '.join(_TYPES)}.")
    headers = {"Cache-Control": "public, max-age=86400"}
    return FileResponse(_ASSETS / name, media_type=_TYPES[name], headers=headers)


def _policy(script: str = "") -> dict[str, str]:
    """The header that tells the browser what a page may load.

    :param script: the text of the only script within the page.
    """
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f" 'sha256-{digest}'" if script else ""
    return {"Content-Security-Policy": _PAGE_POLICY.format(scripts=scripts)}


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
