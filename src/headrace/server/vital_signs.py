"""What says how a process is: its figures on the board, its probes, and who reads both."""

from contextlib import AsyncExitStack
from importlib.metadata import version

from headrace.db.schema import read_state
from headrace.edge.gates import RequestGates
from headrace.health.checks import DatabaseProbe, SchemaProbe, pool_check
from headrace.health.service import HealthService
from headrace.observability.pulse import Pulse
from headrace.server.foundation import Foundation
from headrace.server.run_engine import RunEngine
from headrace.thread_pool import ThreadPool

_SCHEMA_TIMEOUT_SECONDS = 4.0


async def start_health(
    foundation: Foundation,
    engine: RunEngine,
    places: RequestGates,
    threads: ThreadPool | None,
    stack: AsyncExitStack,
) -> HealthService:
    """Figures are published and the database is asked from here on."""
    pool, metrics = foundation.pool, foundation.metrics
    pulse = Pulse(
        foundation.board,
        metrics,
        supervision=foundation.supervision,
        pool_figures=pool.figures,
        writer_figures=foundation.writer.figures,
        answer_figures=foundation.answer_memory.figures,
        gate_figures=places.figures,
        events_waiting_bytes=lambda: engine.reader_budget.bytes,
        body_figures=foundation.body_memory.figures,
        queue_figures=lambda: engine.depth.figures,
        thread_figures=threads.figures if threads is not None else None,
        runs_running=lambda: engine.worker.running,
        caller_figures=engine.worker.caller_figures,
        deaf_runs=lambda: engine.worker.deaf,
        runs_watched=lambda: engine.watcher.watching,
        threads_watched=lambda: engine.thread_watcher.watching,
        notices_connected=lambda: engine.notifier.connected,
    )
    await pulse.start()
    stack.push_async_callback(pulse.stop)
    database = DatabaseProbe(pool_check(pool), supervision=foundation.supervision)
    await database.start()
    stack.push_async_callback(database.stop)
    schema = SchemaProbe(
        lambda: read_state(pool, timeout_seconds=_SCHEMA_TIMEOUT_SECONDS),
        foundation.schema,
        supervision=foundation.supervision,
    )
    await schema.start()
    stack.push_async_callback(schema.stop)
    return HealthService(
        version=version("headrace"),
        board=foundation.board,
        metrics=metrics,
        database=database,
        schema_problem=lambda: schema.problem,
        schema_revision=lambda: schema.revision,
        task_problem=lambda: foundation.supervision.problem or engine.worker.problem,
    )
