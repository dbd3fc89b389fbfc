"""Rows, each against a server and a database of its own, or one after another against one."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from headrace.db.migrate import upgrade
from headrace.embedded.launcher import EmbeddedPostgres
from tests.attack.address import NEIGHBOUR_KEY
from tests.attack.judge import Facts
from tests.attack.neighbour import Call, read_calls
from tests.attack.rows import Row
from tests.attack.site import Target, backends, target
from tests.attack.tally import Tally
from tests.attack.watch import watched
from tests.support.database import database_settings
from tests.support.waiting import wait_until

_TEMPLATE = "headrace_template"
#: A drive that says nothing for so long after its own bounds is killed.
_KILLED_AFTER_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how large."""

    seconds: float = 30.0
    scale: float = 1.0
    #: The neighbour's first calls warm the server up, before anything counts.
    warm_up_seconds: float = 4.0
    baseline_seconds: float = 6.0
    recovery_seconds: float = 3.0
    #: Settings of all servers, for proofs that the judge can fail.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Done to the server at the start of the attack, for such proofs.
    sabotage: Callable[[Target], None] | None = None
    #: Where the logs of the servers are kept; nowhere without it.
    keep: Path | None = None


@contextmanager
def scratch_postgres() -> Iterator[EmbeddedPostgres]:
    """A Postgres with a migrated template; all of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="headrace-attack-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        options = {"max_connections": "200"}
        with EmbeddedPostgres(Path(name) / "pg", durable=False, options=options) as server:
            with psycopg.connect(server.dsn(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {_TEMPLATE}")
            upgrade(database_settings(server.dsn(_TEMPLATE)))
            yield server


def attack(row: Row, plan: Plan, postgres: EmbeddedPostgres, template: str = _TEMPLATE) -> Facts:
    """Baseline, attack, recovery."""
    (facts,) = attack_in_turn([row], plan, postgres, template)
    return facts


def attack_in_turn(
    rows: Sequence[Row], plan: Plan, postgres: EmbeddedPostgres, template: str = _TEMPLATE
) -> list[Facts]:
    """One baseline, and then each row with its recovery, against one server.

    :param rows: with the same settings.
    :return: for each row. What is not as it was in the end is told by the last one.
    """
    found = [Facts(row.number, row.what, Tally(), health=row.health) for row in rows]
    first = rows[0]
    assert all((row.settings, row.open_files) == (first.settings, first.open_files) for row in rows)
    settings = {**first.settings, **plan.settings}
    try:
        with target(postgres, template, open_files=first.open_files, **settings) as server:
            try:
                _attack_in_turn(server, rows, plan, found)
            finally:
                if plan.keep is not None:
                    plan.keep.mkdir(parents=True, exist_ok=True)
                    (plan.keep / f"row-{first.number}.log").write_text(server.log())
    except psycopg.Error as error:
        found[-1].aftermath.append(f"the database cannot be dropped: {error}")
    return found


def _attack_in_turn(
    server: Target, rows: Sequence[Row], plan: Plan, found: Sequence[Facts]
) -> None:
    with _neighbour(server) as calls:
        _wait_for_calls(calls)
        time.sleep(plan.warm_up_seconds)
        quiet_from = time.time()
        time.sleep(plan.baseline_seconds)
        quiet_until = time.time()
        times = [_attack(server, row, plan, facts) for row, facts in zip(rows, found, strict=True)]
        # What the neighbour began in the recovery may end, or fail, after it.
        time.sleep(1.0)
        for facts, (began_at, recovered_at) in zip(found, times, strict=True):
            facts.before = [call for call in calls() if quiet_from <= call.at < quiet_until]
            facts.during = [call for call in calls() if began_at <= call.at < recovered_at]
    found[-1].aftermath += _aftermath(server)


def _attack(server: Target, row: Row, plan: Plan, facts: Facts) -> tuple[float, float]:
    """When the attack began, and when its recovery was over."""
    began_at = time.time()
    with watched(server) as seen:
        if plan.sabotage is not None:
            plan.sabotage(server)
        facts.tally = _drive(server, row, plan)
        time.sleep(plan.recovery_seconds)
    facts.most_memory = seen.most_memory
    facts.restarts = seen.restarts(len(server.children()))
    facts.watchdog_kills = seen.watchdog_kills
    facts.slowest_health = seen.slowest_health
    return began_at, time.time()


def _aftermath(server: Target) -> list[str]:
    """What is not as it was, some seconds after the attack."""
    found = []
    try:
        wait_until(lambda: server.status("/readyz") == 200, seconds=5)
    except AssertionError:
        found.append("the server was not ready after the attack")
    with suppress(AssertionError):
        wait_until(lambda: not backends(server.database_url), seconds=5)
    found += [f"a backend still works on {query[:100]}" for query in _stuck(server)]
    return found


def _stuck(server: Target) -> list[str]:
    """What Postgres works on twice, a second apart."""
    first = backends(server.database_url)
    time.sleep(1.0)
    return [query for query in backends(server.database_url) if query in first]


@contextmanager
def _neighbour(server: Target) -> Iterator[Callable[[], list[Call]]]:
    file = server.folder / "neighbour"
    file.touch()
    command = [sys.executable, "-m", "tests.attack.neighbour", server.url, NEIGHBOUR_KEY, str(file)]
    process = subprocess.Popen(command)
    try:
        yield lambda: read_calls(file)
    finally:
        process.kill()
        process.wait()


def _wait_for_calls(calls: Callable[[], list[Call]]) -> None:
    """A neighbour whose own process takes long to start has no quiet time yet."""
    wait_until(calls, seconds=60)


def _drive(server: Target, row: Row, plan: Plan) -> Tally:
    command = [sys.executable, "-m", "tests.attack.drive", str(row.number)]
    command += [str(plan.seconds), str(plan.scale)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    killing = threading.Timer(plan.seconds + _KILLED_AFTER_SECONDS, process.kill)
    killing.start()
    try:
        said, _ = process.communicate(server.address().dump())
    finally:
        killing.cancel()
        process.kill()
    if process.returncode != 0:
        lost = Tally(tried=1)
        lost.judge(False, f"the drive ended with {process.returncode}")
        return lost
    return Tally.load(said.splitlines()[-1])
