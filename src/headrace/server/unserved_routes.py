"""Features of the LangGraph API that headrace does not have, by their paths."""

import re
from collections.abc import Collection

#: Paths, the feature that other servers have there, and the alternative here.
_UNSERVED = tuple(
    (re.compile(path), what, remedy)
    for path, what, remedy in (
        (r"/ui(/.*)?", "UI components of graphs", "Serve them from an app of your own (http.app)."),
    )
)


#: Doors, by the beginning of their paths.
_DOORS = (
    (re.compile(r"/v1/(chat/completions|responses|models)(/.*)?"), "openai", "The OpenAI API"),
    (re.compile(r"/mcp"), "mcp", "MCP"),
    (re.compile(r"/a2a(/.*)?|/\.well-known/agent(-card)?\.json"), "a2a", "A2A"),
)


def closed_door(path: str, opened: Collection[str]) -> str | None:
    """A sentence if ``path`` belongs to a door that is not open; else None."""
    for pattern, door, what in _DOORS:
        if door not in opened and pattern.fullmatch(path.rstrip("/")):
            return (
                f"{what} is switched off on this server. To switch it on, name {door} in"
                " HEADRACE_SERVER__DOORS or in http.doors of langgraph.json, and start again."
            )
    return None


def unserved_route(path: str) -> str | None:
    """A sentence if ``path`` belongs to a feature that headrace does not have; else None."""
    for pattern, what, remedy in _UNSERVED:
        if pattern.fullmatch(path.rstrip("/")):
            verb = "are" if what.startswith("UI") else "is"
            return f"{what} {verb} not in headrace. {remedy}"
    return None
