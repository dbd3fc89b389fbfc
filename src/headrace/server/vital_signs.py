"""What says how a process is: its figures on the board, its probes, and who reads both."""

from contextlib import AsyncExitStack
from importlib.metadata import version

from headrace.edge.places import RequestPlaces
from headrace.health.checks import DatabaseCheck, DatabaseProbe, SchemaProbe
from headrace.health.pulse import Measured, Pulse
from headrace.health.service import HealthService
from headrace.server.foundation import Foundation
from headrace.server.run_engine import RunEngine
from headrace.thread_pool import ThreadPool


async def start_health(
    foundation: Foundation,
    engine: RunEngine,
    places: RequestPlaces,
    threads: ThreadPool | None,
    stack: AsyncExitStack,
) -> HealthService:
    """Figures are published and the database is asked from here on."""
    pool, metrics = foundation.pool, foundation.metrics
    measured = Measured(
        pool=pool,
        writer=foundation.writer,
        answer_memory=foundation.answer_memory,
        body_memory=foundation.body_memory,
        places=places,
        threads=threads,
        worker=engine.worker,
        queue_depth=engine.depth,
        watcher=engine.watcher,
        thread_watcher=engine.thread_watcher,
        backlog=engine.backlog,
        notifier=engine.notifier,
    )
    supervision = foundation.supervision
    pulse = Pulse(foundation.board, metrics, measured, supervision=supervision)
    database = DatabaseProbe(DatabaseCheck(pool), supervision=supervision)
    schema = SchemaProbe(pool, foundation.schema, supervision=supervision)
    for one in (pulse, database, schema):
        await one.start()
        stack.push_async_callback(one.stop)
    return HealthService(
        version=version("headrace"),
        board=foundation.board,
        metrics=metrics,
        database=database,
        schema=schema,
        supervision=supervision,
        worker=engine.worker,
    )
