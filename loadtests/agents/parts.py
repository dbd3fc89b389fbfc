"""Where a server's time goes: the samples of py-spy, by the package that asked for the work.

A sample belongs to the innermost package of the list that is on its stack. The standard library and
pydantic work for others, so a sample within them belongs to their caller.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

_PLACE = re.compile(r"\((?P<path>[^()]*?)(?::\d+)?\)$")

#: Beginning of a frame's path, as py-spy shortens it, and the part; the first that is found counts.
_PARTS = (
    ("openai/", "openai SDK"),
    ("httpx", "httpx, httpcore, h11"),
    ("httpcore", "httpx, httpcore, h11"),
    ("h11/", "httpx, httpcore, h11"),
    ("anyio/", "httpx, httpcore, h11"),
    ("langchain_openai/", "langchain-openai"),
    ("langchain", "langchain-core"),
    ("langsmith/", "langsmith"),
    ("langgraph/", "langgraph"),
    # LangGraph is a namespace package: these are its folders.
    ("pregel/", "langgraph"),
    ("_internal/", "langgraph"),
    ("graph/", "langgraph"),
    ("channels/", "langgraph"),
    ("checkpoint/", "langgraph"),
    ("prebuilt/", "langgraph"),
    ("headrace/events/", "headrace: events"),
    ("headrace/checkpoints/write_size", "headrace: worker"),
    ("headrace/json_text", "headrace: events"),
    ("headrace/worker/", "headrace: worker"),
    ("headrace/runs/", "headrace: responses"),
    ("headrace/following/", "headrace: responses"),
    ("headrace/edge/", "headrace: responses"),
    ("headrace/checkpoints/", "headrace: checkpoints"),
    ("headrace/usage/", "headrace: other"),
    ("headrace/containment", "headrace: around each task"),
    ("headrace/", "headrace: other"),
    ("psycopg", "psycopg"),
    ("uvicorn", "uvicorn"),
    ("starlette/", "fastapi, starlette"),
    ("fastapi/", "fastapi, starlette"),
    ("loadtests/agents/", "the app"),
    ("graph.py", "the graph"),
)
#: It runs the event loop: what has no other part is the loop's.
_LOOP = "run_until_done "
REST = "event loop, other"


def part_of(stack: str) -> str:
    """The part of a collapsed stack (``outer;…;inner``, each ``name (path:line)``)."""
    for frame in reversed(stack.split(";")):
        if frame.startswith(_LOOP):
            break
        found = _PLACE.search(frame)
        path = found["path"] if found else ""
        for beginning, part in _PARTS:
            if path.startswith(beginning):
                return part
    return REST


def shares(lines: Iterable[str]) -> dict[str, float]:
    """Part of all samples by part, the largest first; ``lines`` as py-spy's format ``raw`` has."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if stack:
            counts[part_of(stack)] += int(count)
    total = sum(counts.values()) or 1
    return {part: round(count / total, 4) for part, count in counts.most_common()}


def shares_told(found: Mapping[str, float]) -> Sequence[str]:
    """One line for each part that takes a hundredth or more."""
    return [f"{part:24}{share:7.1%}" for part, share in found.items() if share >= 0.01]
