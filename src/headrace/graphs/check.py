"""Loads graphs and ``http.app`` as a server would, without one and its database, in a process.

``headrace dev`` runs it (``python -m headrace.graphs.check FD``) beside the start of Postgres, so
that a graph that cannot be served is refused at once, and again before it reloads. What the user's
code does meanwhile, the end of the process included, harms nobody. It reports on the file
descriptor ``FD``, a JSON object a line: ``{"file"}`` of the user's that is executed, ``{"stands"}``
where that takes long, and last ``{"refusal", "traceback"}`` or ``{"passed", "inputs"}``.
"""

import asyncio
import json
import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any

import structlog
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from headrace.errors import StartupRefusal
from headrace.graphs.custom_app import load_custom_app, load_served_app
from headrace.graphs.descriptions import GraphDescriptions
from headrace.graphs.manifest import find_manifest
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from
from headrace.observability.user_code import is_installed, short_traceback, shown_path
from headrace.settings import Settings

_log = structlog.stdlib.get_logger("headrace.graphs")

#: The user's code raised: its frames say more than the sentence does.
_RAISED = ("HR105", "HR107")

#: Code that takes longer to import is told of.
SLOW_SECONDS = 10.0


class MemorySaver(InMemorySaver):
    """Stands in for the server's saver, which has ``setup`` for factories that call it."""

    async def setup(self) -> None:
        """Does nothing."""


class MemoryStore(InMemoryStore):
    """Stands in for the server's store."""

    async def setup(self) -> None:
        """Does nothing."""


async def check(settings: Settings) -> dict[str, Any]:
    """The JSON schemas of what the graphs take, by their names; of an app's graphs none is known.

    :raises StartupRefusal: as the server would.
    """
    if settings.app:
        load_served_app(settings.app)
        return {}
    manifest = find_manifest(settings)
    if manifest is not None:
        load_custom_app(manifest)
    registry = await GraphRegistry.open(
        sources_from(settings), checkpointer=MemorySaver(), store=MemoryStore()
    )
    inputs = {graph_id: await _input_schema(registry, graph_id) for graph_id in registry.ids()}
    await registry.close()
    return inputs


async def _input_schema(registry: GraphRegistry, graph_id: str) -> Any:
    try:
        return (await GraphDescriptions(registry).schemas(graph_id, {}))["input_schema"]
    except Exception:
        # A factory that wants the configuration of a run; the graph is served all the same.
        _log.debug("input_schema_unknown", graph_id=graph_id, exc_info=True)
        return None


class Report:
    """What the check has to say, to whoever holds the other end of a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, **what: Any) -> None:
        os.write(self._descriptor, json.dumps(what).encode() + b"\n")

    def tell_files(self) -> None:
        """From now on each file of the user's is told before it is executed."""
        told: set[str] = set()

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event != "exec" or not isinstance(arguments[0], CodeType):
                return
            file = arguments[0].co_filename
            if file not in told and not is_installed(file):
                told.add(file)
                self.say(file=shown_path(file))

        sys.addaudithook(audit)

    def tell_if_slow(self) -> None:
        """Tell where the calling thread stands, should it still be at work after some seconds."""
        thread = threading.get_ident()

        def look() -> None:
            frame = sys._current_frames().get(thread)
            self.say(stands=_users_line(frame))

        timer = threading.Timer(SLOW_SECONDS, look)
        timer.daemon = True
        timer.start()


def _users_line(frame: FrameType | None) -> str:
    while frame is not None and is_installed(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{shown_path(frame.f_code.co_filename)} line {frame.f_lineno}" if frame else ""


def _main(report: Report) -> None:
    report.tell_if_slow()
    report.tell_files()
    try:
        inputs = asyncio.run(check(Settings()))
    except StartupRefusal as refusal:
        cause = refusal.__cause__ if refusal.code in _RAISED else None
        report.say(
            refusal=str(refusal), traceback=short_traceback(cause) if cause is not None else ""
        )
    else:
        report.say(passed=True, inputs=inputs)
    # Threads that the user's code has left behind are not waited for.
    os._exit(0)


if __name__ == "__main__":
    _main(Report(int(sys.argv[1])))
