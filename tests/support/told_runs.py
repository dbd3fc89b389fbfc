"""A run engine with a test's own graphs, and what it tells of their runs in metrics and log."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import structlog
from pydantic import SecretStr
from structlog.contextvars import merge_contextvars

from headrace.graphs.sources import sources_from_objects
from headrace.ids import uuid7
from headrace.server.resources import Entries, Resources, open_resources
from headrace.server.run_engine import start_run_engine
from headrace.settings import Settings
from headrace.worker.worker import Worker
from tests.support.exposition import Exposition
from tests.support.runs import run_request
from tests.support.waiting import eventually
from tests.support.workers import KWARGS

ENDED = ("success", "error", "timeout", "interrupted")


class ToldRuns:
    """Runs of this engine, and their lines."""

    def __init__(
        self, url: str, resources: Resources, worker: Worker, lines: list[Any], graph_ids: list[str]
    ) -> None:
        self.url = url
        self.resources = resources
        self.worker = worker
        self.lines = lines
        self.graph_ids = graph_ids
        self._connections: list[psycopg.Connection[Any]] = []

    def connected(self) -> psycopg.Connection[Any]:
        """A connection to its database, until the end of the engine."""
        self._connections.append(psycopg.connect(self.url, autocommit=True))
        return self._connections[-1]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def start(
        self, graph_id: str, given: Any = None, *, thread_id: str | None = None, **changes: Any
    ) -> UUID:
        """:param changes: to the kwargs of the run, or to fields of its request."""
        request = run_request(thread_id or str(uuid7()))
        named = {one.name for one in dataclasses.fields(request)}
        fields = {name: value for name, value in changes.items() if name in named}
        kwargs = {**KWARGS, "input": given or {}}
        kwargs |= {name: value for name, value in changes.items() if name not in fields}
        await self.worker.submit(replace(request, graph_id=graph_id, kwargs=kwargs, **fields))
        return request.run_id

    async def run(self, graph_id: str, given: Any = None, **changes: Any) -> UUID:
        """Start a run, and wait for its end."""
        run_id = await self.start(graph_id, given, **changes)
        await self.end_of(run_id)
        return run_id

    async def end_of(self, run_id: UUID, *, seconds: float = 20) -> None:
        """Return once the run has ended here, or its row is gone."""

        def ended() -> bool:
            row = self.row(run_id, "status")
            here = run_id in self.worker._roster.executions
            return not here and (row is None or row[0] in ENDED)

        await eventually(ended, seconds=seconds)

    async def goes_on(self, run_id: UUID) -> None:
        """Return once the graph of the run has begun."""

        def begun() -> bool:
            execution = self.worker._roster.executions.get(run_id)
            return execution is not None and execution.progress.loaded

        await eventually(begun)

    def execute(self, sql: str, *values: Any) -> Any:
        with psycopg.connect(self.url, autocommit=True) as database:
            return database.execute(sql, values)

    def row(self, run_id: UUID, columns: str) -> Any:
        with psycopg.connect(self.url, autocommit=True) as database:
            return database.execute(
                f"SELECT {columns} FROM runs WHERE run_id = %s", (run_id,)
            ).fetchone()

    def lines_of(self, run_id: UUID, event: str | None = None) -> list[Any]:
        found = [line for line in self.lines if line.get("run_id") == str(run_id)]
        return [line for line in found if event in (None, line["event"])]

    def faults(self, run_id: UUID) -> list[str]:
        """The events of its lines of level warning and above."""
        return [
            line["event"]
            for line in self.lines_of(run_id)
            if line["log_level"] in ("warning", "error", "critical")
        ]

    def count(self, name: str, **labels: str) -> float:
        return self.scraped().count(name, **labels)

    def value_of(self, name: str, **labels: str) -> float:
        return self.scraped().value(name, **labels)

    def scraped(self) -> Exposition:
        return Exposition(self.resources.metrics.render().decode())


@asynccontextmanager
async def told_runs(url: str, graphs: dict[str, Any], **changes: Any) -> AsyncIterator[ToldRuns]:
    """:param changes: to the settings of the worker."""
    settings = Settings.model_validate(
        {
            "database": {"url": SecretStr(url), "pool_max": 6},
            "events": {"notices": "off"},
            "worker": changes,
        }
    )
    with structlog.testing.capture_logs(processors=(merge_contextvars,)) as lines:
        async with AsyncExitStack() as stack:
            entries = Entries.of(None, settings.retention)
            resources = await open_resources(settings, sources_from_objects(graphs), entries, stack)
            engine = await start_run_engine(resources, stack)
            runs = ToldRuns(url, resources, engine.worker, lines, list(graphs))
            stack.callback(runs.close)
            yield runs
