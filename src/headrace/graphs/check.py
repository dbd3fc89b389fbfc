"""Loads graphs, ``http.app`` and ``store.index`` as a server does, without a server and a database.

``headrace dev`` runs it (``python -m headrace.graphs.check FD``) while Postgres starts, and again
before a reload. So the developer learns at once that a graph cannot be served. The user's code may
even end this process: that harms nothing else. The process reports on the file descriptor ``FD``,
one JSON object a line: ``{"file"}`` for each file of the user that is executed, ``{"stands"}`` for
slow code, and last ``{"refusal", "traceback"}`` or ``{"passed", "inputs"}``.
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

from headrace.checkpoints.allowed_types import AllowedTypes
from headrace.errors import StartupRefusal
from headrace.graphs.custom_app import load_custom_app, load_served_app
from headrace.graphs.descriptions import GraphDescriptions
from headrace.graphs.embeddings import load_index
from headrace.graphs.manifest import find_manifest
from headrace.graphs.registry import GraphRegistry
from headrace.graphs.sources import sources_from
from headrace.observability.user_code import is_installed, short_traceback, shown_path
from headrace.settings import Settings

_log = structlog.stdlib.get_logger("headrace.graphs")

#: Refusals whose cause is an exception of the user's code: the report adds its traceback.
_RAISED = ("HR105", "HR107")

#: If the check takes longer, the report says where it stands.
SLOW_SECONDS = 10.0


class MemorySaver(InMemorySaver):
    """Replaces the server's saver. Factories may call ``setup``."""

    async def setup(self) -> None:
        """Does nothing."""


class MemoryStore(InMemoryStore):
    """Replaces the server's store."""

    async def setup(self) -> None:
        """Does nothing."""


async def check(settings: Settings) -> dict[str, Any]:
    """The JSON schemas of the graphs' inputs by name; empty for an app, whose graphs are unknown.

    :raises StartupRefusal: as the server does.
    """
    if settings.app:
        load_served_app(settings.app)
        return {}
    manifest = find_manifest(settings)
    if manifest is not None:
        load_custom_app(manifest)
        load_index(manifest)
    checkpointer = manifest.checkpointer if manifest is not None else None
    listed = checkpointer.serde.allowed_msgpack_modules if checkpointer is not None else None
    registry = await GraphRegistry.open(
        sources_from(settings),
        checkpointer=MemorySaver(),
        store=MemoryStore(),
        types=AllowedTypes(listed, more=settings.checkpointer.allowed_types),
    )
    inputs = {graph_id: await _input_schema(registry, graph_id) for graph_id in registry.ids()}
    await registry.close()
    return inputs


async def _input_schema(registry: GraphRegistry, graph_id: str) -> Any:
    try:
        return (await GraphDescriptions(registry).schemas(graph_id, {}))["input_schema"]
    except Exception:
        # The factory may need the configuration of a run. The server serves such a graph.
        _log.debug("input_schema_unknown", graph_id=graph_id, exc_info=True)
        return None


class Report:
    """Writes the report of the check to a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def say(self, **what: Any) -> None:
        os.write(self._descriptor, json.dumps(what).encode() + b"\n")

    def report_files(self) -> None:
        """From now on, report each file of the user before it is executed."""
        reported: set[str] = set()

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event != "exec" or not isinstance(arguments[0], CodeType):
                return
            file = arguments[0].co_filename
            if file not in reported and not is_installed(file):
                reported.add(file)
                self.say(file=shown_path(file))

        sys.addaudithook(audit)

    def report_if_slow(self) -> None:
        """Report where the calling thread is, if the check still runs after some seconds."""
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
    report.report_if_slow()
    report.report_files()
    try:
        inputs = asyncio.run(check(Settings()))
    except StartupRefusal as refusal:
        cause = refusal.__cause__ if refusal.code in _RAISED else None
        report.say(
            refusal=str(refusal), traceback=short_traceback(cause) if cause is not None else ""
        )
    else:
        report.say(passed=True, inputs=inputs)
    # Do not wait for threads that the user's code has started.
    os._exit(0)


if __name__ == "__main__":
    _main(Report(int(sys.argv[1])))
