"""What clients of the LangGraph API may ask for and headrace does not have."""

import re

_RUNS = "POST /threads/{thread_id}/runs/stream"

#: Paths, the feature that other servers have there, and the alternative here.
_UNSERVED = tuple(
    (re.compile(path), what, remedy)
    for path, what, remedy in (
        (
            r"/threads/[^/]+/commands",
            "The streaming protocol v3",
            f"Use {_RUNS}, or POST /threads/{{thread_id}}/runs/{{run_id}}/cancel to stop a run.",
        ),
        (
            r"/threads/[^/]+/stream/events",
            "The streaming protocol v3",
            f"Use {_RUNS} or GET /threads/{{thread_id}}/stream.",
        ),
        (
            r"(/threads/[^/]+)?/runs/crons(/.*)?",
            "Cron jobs",
            "Let a scheduler of your own send POST /runs, with an Idempotency-Key.",
        ),
        (r"/mcp(/.*)?", "An MCP endpoint", "Use the routes of /runs."),
        (
            r"/a2a(/.*)?|/\.well-known/agent(-card)?\.json",
            "The agent-to-agent protocol (A2A)",
            "Use the routes of /runs.",
        ),
        (r"/ui(/.*)?", "UI components of graphs", "Serve them from an app of your own (http.app)."),
    )
)


def unserved_route(path: str) -> str | None:
    """A sentence where ``path`` belongs to something that headrace does not have."""
    for pattern, what, remedy in _UNSERVED:
        if pattern.fullmatch(path.rstrip("/")):
            verb = "are" if what.startswith(("Cron", "UI")) else "is"
            return f"{what} {verb} not in headrace. {remedy}"
    return None
