"""Faults, each with the alerts that have to tell it: begun, held until they fire, and ended."""

import asyncio
import itertools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg

from headrace.lifecycle import Tasks
from tests.alerts.pods import LEASE_SECONDS, started
from tests.alerts.site import Site
from tests.support.hook_receiver import hook_receiver
from tests.support.roles import SERVER_ROLE
from tests.support.slow_clients import StreamClient


@dataclass(frozen=True)
class Fault:
    """``begin`` yields when the fault is there, and ends it afterwards."""

    name: str
    alerts: tuple[str, ...]
    begin: Callable[[Site], AbstractAsyncContextManager[None]]
    #: The fault is held for so long, also when its alerts fire sooner.
    seconds: float = 0.0


@asynccontextmanager
async def again_and_again(
    act: Callable[[], Awaitable[object]], *, pause_seconds: float, beside: int = 1
) -> AsyncIterator[None]:
    """``act``, ``beside`` one another, with pauses, until the end."""

    async def go_on() -> None:
        while True:
            await act()
            await asyncio.sleep(pause_seconds)

    tasks = Tasks()
    for number in range(beside):
        tasks.start(go_on(), name=f"again-{number}")
    try:
        yield
    finally:
        await tasks.stop()


@asynccontextmanager
async def open_transaction(site: Site, *statements: str) -> AsyncIterator[None]:
    """A transaction that has done this much, and stays open."""
    connection = await psycopg.AsyncConnection.connect(site.postgres.url)
    await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    for statement in statements:
        await connection.execute(statement.encode())
    try:
        yield
    finally:
        with suppress(psycopg.Error):
            await connection.rollback()
        await connection.close()


# The database.


@asynccontextmanager
async def postgres_down(site: Site) -> AsyncIterator[None]:
    """Runs wait for its return; reads are refused."""
    await asyncio.to_thread(site.postgres.crash)
    try:
        async with again_and_again(site.callers.read, pause_seconds=0.3, beside=6):
            yield
    finally:
        await asyncio.to_thread(site.postgres.start)


@asynccontextmanager
async def pool_starved(site: Site) -> AsyncIterator[None]:
    """Somebody locks the table of threads, and every connection waits for that."""
    create = site.callers.create
    async with (
        open_transaction(site, "LOCK TABLE threads IN ACCESS EXCLUSIVE MODE"),
        again_and_again(create, pause_seconds=0.1, beside=40),
        again_and_again(site.callers.read, pause_seconds=0.1, beside=10),
    ):
        yield


@asynccontextmanager
async def connections_leak(site: Site) -> AsyncIterator[None]:
    async def each(**does: Any) -> None:
        await asyncio.gather(*(site.callers.wait(at=pod.url, **does) for pod in site.pods))

    await each(leaks=1)
    try:
        yield
    finally:
        # Any process may have it; each has to be asked.
        for _ in range(12):
            await each(mends=True)


@asynccontextmanager
async def database_slow(site: Site) -> AsyncIterator[None]:
    for proxy in site.proxies:
        proxy.delay_seconds = 0.2
    try:
        yield
    finally:
        for proxy in site.proxies:
            proxy.delay_seconds = 0.0


@asynccontextmanager
async def listener_killed(site: Site) -> AsyncIterator[None]:
    statement = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'headrace' AND query ILIKE 'LISTEN%'"
    )
    async with again_and_again(lambda: site.execute(statement), pause_seconds=0.02):
        yield


@asynccontextmanager
async def schema_changed(site: Site) -> AsyncIterator[None]:
    """A later release has migrated the schema, and old ones may not use it."""
    await site.execute(
        "CREATE TABLE kept AS SELECT version_num, min_revision"
        " FROM headrace_alembic_version, schema_compat",
        "UPDATE schema_compat SET min_revision = '9999_later'",
        "UPDATE headrace_alembic_version SET version_num = '9999_later'",
    )
    try:
        yield
    finally:
        await site.execute(
            "UPDATE headrace_alembic_version SET version_num = (SELECT version_num FROM kept)",
            "UPDATE schema_compat SET min_revision = (SELECT min_revision FROM kept)",
            "DROP TABLE kept",
        )


@asynccontextmanager
async def tables_neglected(site: Site) -> AsyncIterator[None]:
    """Autovacuum is off, there are many runs, and somebody reads all of them again and again."""
    assert await site.callers.wait()
    await site.execute(
        "ALTER TABLE runs SET (autovacuum_enabled = false)",
        "INSERT INTO runs SELECT (jsonb_populate_record(one, jsonb_build_object("
        "'run_id', gen_random_uuid(), 'metadata', jsonb_build_object('copy', true)))).*"
        f" FROM generate_series(1, {site.rows}), runs AS one WHERE one.run_id ="
        " (SELECT run_id FROM runs WHERE status = 'success' LIMIT 1)",
        *("UPDATE runs SET metadata = metadata WHERE status = 'success'",) * 3,
    )
    scan = "SELECT count(metadata) FROM runs WHERE metadata->>'copy' = 'no'"
    try:
        async with again_and_again(lambda: site.execute(scan), pause_seconds=0.3):
            yield
    finally:
        await site.execute(
            "DELETE FROM runs WHERE metadata->>'copy' = 'true'",
            "ALTER TABLE runs RESET (autovacuum_enabled)",
            "VACUUM (ANALYZE) runs",
        )


@asynccontextmanager
async def snapshot_open(site: Site) -> AsyncIterator[None]:
    async with open_transaction(site, "SELECT count(*) FROM runs"):
        yield


@asynccontextmanager
async def thread_grows(site: Site) -> AsyncIterator[None]:
    """It is used again and again: only threads of late runs are measured."""
    thread = str(uuid4())
    use = lambda: site.callers.background(thread=thread, seconds=0.1)  # noqa: E731
    for _ in range(2):
        await site.callers.background(thread=thread, grows=6 * 2**20)
    try:
        async with again_and_again(use, pause_seconds=0.5):
            yield
    finally:
        for _ in range(50):
            if await site.callers.delete(thread):
                break
            await asyncio.sleep(0.2)


@asynccontextmanager
async def password_ends(site: Site) -> AsyncIterator[None]:
    await site.execute(
        f"DO $$ BEGIN EXECUTE format('ALTER ROLE {SERVER_ROLE} VALID UNTIL %L',"
        " now() + interval '3 hours'); END $$"
    )
    try:
        yield
    finally:
        await site.execute(f"ALTER ROLE {SERVER_ROLE} VALID UNTIL 'infinity'")


# Runs.


@asynccontextmanager
async def graph_raises(site: Site) -> AsyncIterator[None]:
    async with again_and_again(lambda: site.callers.wait("fails"), pause_seconds=0.5):
        yield


@asynccontextmanager
async def checkpoints_refused(site: Site) -> AsyncIterator[None]:
    """The database takes no checkpoint any more."""
    await site.execute("ALTER TABLE checkpoints ADD CONSTRAINT none CHECK (false) NOT VALID")
    try:
        yield
    finally:
        await site.execute("ALTER TABLE checkpoints DROP CONSTRAINT none")


@asynccontextmanager
async def graph_thinks_long(site: Site) -> AsyncIterator[None]:
    think = lambda: site.callers.stream(seconds=5.0)  # noqa: E731
    async with again_and_again(think, pause_seconds=0.0, beside=40):
        yield


@asynccontextmanager
async def places_full(site: Site) -> AsyncIterator[None]:
    """Several runs for each place."""
    for _ in range(30):
        await asyncio.gather(*(site.callers.background(seconds=5.0) for _ in range(20)))
    yield


@asynccontextmanager
async def graph_served_nowhere(site: Site) -> AsyncIterator[None]:
    thread = str(uuid4())
    async with site.elsewhere() as pod:
        assert await site.callers.background("elsewhere", at=pod.url, thread=thread)
    try:
        yield
    finally:
        await site.callers.delete(thread)


@asynccontextmanager
async def clients_stop_reading(site: Site) -> AsyncIterator[None]:
    asked = {
        "assistant_id": "work",
        "input": {"events": 600, "pause": 0.02},
        "stream_mode": ["custom"],
        "if_not_exists": "create",
    }
    clients = [
        StreamClient(pod.url, f"/threads/{uuid4()}/runs/stream", asked, rate=0)
        for pod in site.pods
        for _ in range(10)
    ]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            await asyncio.to_thread(client.stop)


# Crons and webhooks.

#: No slot of it comes by itself.
_SELDOM = "0 0 29 2 *"
_DUE = "UPDATE crons SET next_run_date = now(), look_at = now() + interval '{} s'"


@asynccontextmanager
async def crons_locked(site: Site) -> AsyncIterator[None]:
    """Nobody can take a cron that is due."""
    cron = await site.callers.made("/runs/crons", {"assistant_id": "work", "schedule": _SELDOM})
    assert cron["enabled"]
    await site.execute(_DUE.format(2))
    async with open_transaction(site, "LOCK TABLE crons IN EXCLUSIVE MODE"):
        yield
    await site.execute("DELETE FROM crons")


@asynccontextmanager
async def assistant_gone(site: Site) -> AsyncIterator[None]:
    await site.scraped('headrace_cron_slots_total{outcome="disabled"}')
    made = await site.callers.made("/assistants", {"graph_id": "work"})
    name = made["assistant_id"]
    await site.callers.made("/runs/crons", {"assistant_id": name, "schedule": _SELDOM})
    await site.execute(
        f"DELETE FROM assistants WHERE assistant_id = '{name}'",
        f"{_DUE.format(0)} WHERE assistant_id = '{name}'",
    )
    yield


@asynccontextmanager
async def receiver_hangs(site: Site) -> AsyncIterator[None]:
    with hook_receiver() as receiver:
        receiver.answering.clear()
        for _ in range(10):
            await asyncio.gather(*(site.callers.hooked(receiver.url) for _ in range(10)))
        yield
        await site.execute("DELETE FROM webhook_deliveries")


@asynccontextmanager
async def receiver_gone(site: Site) -> AsyncIterator[None]:
    """It says so once, and takes another message as ever."""
    await site.scraped('headrace_webhook_calls_total{outcome="dead"}')
    with hook_receiver() as receiver:
        receiver.statuses = [410]
        for _ in range(2):
            await site.callers.hooked(receiver.url)
        await asyncio.to_thread(receiver.wait, 2)
        yield


# Processes.


@asynccontextmanager
async def processes_killed(site: Site) -> AsyncIterator[None]:
    """One process after the other dies with runs in it."""

    turns = itertools.cycle(site.pods)

    async def kill() -> None:
        serving = await asyncio.to_thread(next(turns).serving)
        with suppress(ProcessLookupError):
            for pid in serving[:1]:
                os.kill(pid, signal.SIGKILL)

    work = lambda: site.callers.background(seconds=2.0)  # noqa: E731
    async with (
        again_and_again(work, pause_seconds=0.3, beside=4),
        again_and_again(kill, pause_seconds=4.0),
    ):
        yield


@asynccontextmanager
async def run_kills_its_process(site: Site) -> AsyncIterator[None]:
    await site.callers.background(at=site.pods[1].url, dies=True)
    yield


@asynccontextmanager
async def process_stopped(site: Site) -> AsyncIterator[None]:
    pid = site.pods[1].send(signal.SIGSTOP)
    await asyncio.sleep(LEASE_SECONDS + 3)
    os.kill(pid, signal.SIGCONT)
    yield


@asynccontextmanager
async def loop_blocked(site: Site) -> AsyncIterator[None]:
    block = lambda: site.callers.wait(at=site.pods[0].url, blocks=10.0)  # noqa: E731
    async with again_and_again(block, pause_seconds=1.0):
        yield


@asynccontextmanager
async def table_missing(site: Site) -> AsyncIterator[None]:
    """A background task meets a database that is not as it should be."""
    before = await site.counted("headrace_background_faults_total")
    await site.execute("ALTER TABLE run_events RENAME TO run_events_elsewhere")
    try:
        async with asyncio.timeout(30):
            while await site.counted("headrace_background_faults_total") == before:
                await asyncio.sleep(0.3)
    finally:
        await site.execute("ALTER TABLE run_events_elsewhere RENAME TO run_events")
    yield


@asynccontextmanager
async def directory_filled(site: Site) -> AsyncIterator[None]:
    with tempfile.TemporaryFile(dir=site.pods[0].runtime_dir) as file:
        # Twice the margin of the threshold.
        await asyncio.to_thread(os.posix_fallocate, file.fileno(), 0, 2 * 1024 * 2**20)
        yield


@asynccontextmanager
async def pods_stopped(site: Site) -> AsyncIterator[None]:
    await asyncio.gather(*(asyncio.to_thread(pod.stop) for pod in site.pods))
    try:
        yield
    finally:
        await asyncio.gather(*(started(pod) for pod in site.pods))


def _alerts(*names: str) -> tuple[str, ...]:
    return tuple(f"Headrace{name}" for name in names)


POSTGRES_DOWN = Fault(
    "Postgres down 30 s",
    _alerts(
        "DatabaseUnreachable",
        "NoPodReady",
        "PodNotReady",
        "ErrorBudgetBurnsFast",
        "ErrorBudgetBurns",
    ),
    postgres_down,
    seconds=30,
)
POSTGRES_DOWN_SHORTLY = Fault(
    "Postgres down",
    _alerts("DatabaseUnreachable", "NoPodReady", "ErrorBudgetBurnsFast"),
    postgres_down,
)
GRAPH_RAISES = Fault("a graph raises each time", _alerts("GraphFails"), graph_raises)
SNAPSHOT_OPEN = Fault("an old snapshot held open", _alerts("OldTransaction"), snapshot_open)
PASSWORD_ENDS = Fault(
    "a password valid for 3 h", _alerts("CredentialExpires", "CredentialExpiresNow"), password_ends
)
LOOP_BLOCKED = Fault("a graph blocks the loop", _alerts("LoopLag", "ProcessSilent"), loop_blocked)
PROCESS_STOPPED = Fault("SIGSTOP past the lease", _alerts("LeaseLost"), process_stopped)
DIRECTORY_FILLED = Fault(
    "the directory of metrics filled", _alerts("MetricsDirectoryFull"), directory_filled
)
LISTENER_KILLED = Fault(
    "the listener killed again and again", _alerts("ListenerDown"), listener_killed
)

#: Faults of one stage are there at once; the stages follow one another.
LONG: tuple[tuple[Fault, ...], ...] = (
    (
        GRAPH_RAISES,
        SNAPSHOT_OPEN,
        PASSWORD_ENDS,
        DIRECTORY_FILLED,
        LISTENER_KILLED,
        Fault("a leak of connections", _alerts("ConnectionsLeak"), connections_leak),
        Fault("a thread of 12 MiB", _alerts("ThreadLarge"), thread_grows),
        Fault("a graph that nobody serves", _alerts("RunsUnserved"), graph_served_nowhere),
        Fault("clients that stop reading", _alerts("StreamsCut"), clients_stop_reading),
    ),
    (
        Fault(
            "autovacuum off, 30,000 runs, all read again and again",
            _alerts("TableBloated", "VacuumOverdue", "SequentialScans"),
            tables_neglected,
        ),
        Fault("a table of events that is missing", _alerts("BackgroundFaults"), table_missing),
        LOOP_BLOCKED,
    ),
    (
        Fault("the table of crons locked", _alerts("CronsLate"), crons_locked),
        Fault("a cron without its assistant", _alerts("CronsDisabled"), assistant_gone),
        Fault("a receiver that hangs", _alerts("WebhooksLate"), receiver_hangs),
        Fault("a receiver that is gone", _alerts("WebhooksDead"), receiver_gone),
    ),
    (Fault("graphs that think for 5 s", _alerts("FirstEventSlow"), graph_thinks_long),),
    (Fault("the way to Postgres slow", _alerts("CheckpointsSlow"), database_slow),),
    (Fault("all places full", _alerts("QueueOld"), places_full),),
    (Fault("the pool starved", _alerts("PoolSaturated"), pool_starved),),
    (Fault("checkpoints refused", _alerts("RunsFail"), checkpoints_refused),),
    (Fault("a later schema", _alerts("SchemaMismatch", "PodNotReady"), schema_changed),),
    (
        PROCESS_STOPPED,
        Fault("a run that kills its process", _alerts("PoisonRun"), run_kills_its_process),
    ),
    (
        Fault(
            "a process killed -9 again and again",
            _alerts("RescueStorm", "ProcessesRestart"),
            processes_killed,
        ),
    ),
    (POSTGRES_DOWN,),
    (Fault("all pods stopped", _alerts("ScrapeFails", "Gone"), pods_stopped),),
)

SHORT: tuple[tuple[Fault, ...], ...] = (
    (GRAPH_RAISES, SNAPSHOT_OPEN, PASSWORD_ENDS, DIRECTORY_FILLED, LISTENER_KILLED, LOOP_BLOCKED),
    (POSTGRES_DOWN_SHORTLY,),
)
