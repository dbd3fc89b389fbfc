"""headrace serves LangGraph agents over HTTP from FastAPI and Postgres.

In an app of your own::

    app = FastAPI(lifespan=headrace.lifespan(graphs={"agent": builder}))
    app.include_router(headrace.router)


    @app.post("/ask")
    async def ask(request: Request, question: str):
        graph = headrace.graph(request, "agent")
        ...

Each name is loaded at its first use, so that importing one part of headrace stays cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.edge.middleware import Middleware as Middleware
    from headrace.server.library import __version__ as __version__
    from headrace.server.library import graph as graph
    from headrace.server.library import router as router
    from headrace.server.lifespan import lifespan as lifespan
    from headrace.server.runtime import Runtime as Runtime
    from headrace.settings import Settings as Settings

_HOMES = {
    "Middleware": "headrace.edge.middleware",
    "Runtime": "headrace.server.runtime",
    "Settings": "headrace.settings",
    "__version__": "headrace.server.library",
    "graph": "headrace.server.library",
    "lifespan": "headrace.server.lifespan",
    "router": "headrace.server.library",
}

__all__ = ["Middleware", "Runtime", "Settings", "__version__", "graph", "lifespan", "router"]

# Hidden from type checkers, so that they report an unknown name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'headrace' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
