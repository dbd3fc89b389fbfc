"""Servers of others, each in an environment of its own: where it is, how it is started.

Nothing of theirs is imported here: they are other programs, spoken to over HTTP.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from loadtests.measuring.servers import (
    NotServing,
    ServerProcess,
    free_port,
    plain_environment,
    serving,
)

#: Where ``make compare-peers`` installs them, unless COMPARE_PEERS says otherwise.
HOME = Path(__file__).parents[2] / ".tools" / "peers"


@dataclass(frozen=True)
class Environment:
    """What is installed for a peer; ``python`` is the oldest version of Python that takes it."""

    packages: tuple[str, ...]
    python: tuple[int, int]
    program: str


ENVIRONMENTS = {
    "langgraph_dev": Environment(("langgraph-cli[inmem]==0.4.40",), (3, 11), "langgraph"),
    "aegra": Environment(("aegra-api==0.11.0", "uvicorn[standard]==0.54.0"), (3, 12), "uvicorn"),
    "runtime_pg": Environment(
        ("langgraph-runtime-pg==0.11.1.post1", "langhost==0.11.1.post1"), (3, 11), "langhost"
    ),
    "graphharbor": Environment(("graphharbor==0.13.0.post45",), (3, 11), "graphharbor"),
}

#: Runs that a process of theirs may have under way: enough for every connection of the client.
_JOBS = "32"
_MIGRATION_SECONDS = 120.0


class NotInstalled(Exception):
    """A peer cannot be measured here; with the reason."""


@dataclass(frozen=True)
class Site:
    """Where a peer is started: ``folder`` is its working directory, with a ``langgraph.json``."""

    folder: Path
    database_url: str
    processes: int


def program_of(environment: str) -> Path:
    """
    :raises NotInstalled: it is not there.
    """
    home = Path(os.environ.get("COMPARE_PEERS") or HOME)
    program = home / environment / "bin" / ENVIRONMENTS[environment].program
    if not program.exists():
        raise NotInstalled(f"{environment} is not installed: make compare-peers")
    return program


def url_of(conninfo: str) -> str:
    """``postgresql://…`` for those that take no other form.

    :raises NotInstalled: the server has only a unix socket, which not all of them can use.
    """
    parts = conninfo_to_dict(conninfo)
    host = str(parts.get("host") or "127.0.0.1")
    if host.startswith("/"):
        raise NotInstalled("peers need a Postgres on a port: set DATABASE_URL")
    user = str(parts.get("user") or "postgres")
    secret = f":{parts['password']}" if parts.get("password") else ""
    return f"postgresql://{user}{secret}@{host}:{parts.get('port') or 5432}/{parts['dbname']}"


@contextmanager
def redis(folder: Path) -> Iterator[ServerProcess]:
    """A Redis of its own, with the settings of Redis, that keeps its files in ``folder``."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotInstalled("there is no redis-server, which this peer needs")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with serving("redis", command, port, dict(os.environ), folder=folder, ready=None) as server:
        yield server


@contextmanager
def langgraph_dev(site: Site) -> Iterator[Sequence[ServerProcess]]:
    """It has one process, and no database."""
    port = free_port()
    command = [str(program_of("langgraph_dev")), "dev", "--no-browser", "--no-reload"]
    command += ["--port", str(port), "--n-jobs-per-worker", _JOBS]
    environment = plain_environment(LANGGRAPH_CLI_NO_ANALYTICS="1")
    with serving(
        "langgraph_dev",
        command,
        port,
        environment,
        folder=site.folder,
        ready="/ok",
        work_dir=site.folder,
    ) as server:
        yield [server]


@contextmanager
def aegra(site: Site) -> Iterator[Sequence[ServerProcess]]:
    """Several processes, which need Redis."""
    with redis(site.folder) as broker:
        settings = {
            "REDIS_BROKER_ENABLED": "true",
            "REDIS_URL": f"redis://127.0.0.1:{broker.port}/0",
            "N_JOBS_PER_WORKER": _JOBS,
        }
        # Processes that begin together would make the tables together, and fail.
        with _aegra(site, 1, settings):
            pass
        with _aegra(site, site.processes, settings) as server:
            yield [server, broker]


@contextmanager
def aegra_alone(site: Site) -> Iterator[Sequence[ServerProcess]]:
    """One process without Redis: what does not wait for it is quicker then."""
    with _aegra(site, 1, {}) as server:
        yield [server]


@contextmanager
def _aegra(site: Site, processes: int, settings: dict[str, str]) -> Iterator[ServerProcess]:
    port = free_port()
    command = [str(program_of("aegra")), "aegra_api.main:app", "--port", str(port)]
    command += ["--workers", str(processes), "--no-access-log", "--log-level", "warning"]
    environment = plain_environment(
        DATABASE_URL=url_of(site.database_url), AEGRA_CONFIG="langgraph.json", **settings
    )
    with serving(
        "aegra",
        command,
        port,
        environment,
        folder=site.folder,
        ready="/health",
        work_dir=site.folder,
    ) as server:
        yield server


@contextmanager
def runtime_pg(site: Site) -> Iterator[Sequence[ServerProcess]]:
    """LangGraph's own HTTP server with tables and queue of langgraph-runtime-pg."""
    url = url_of(site.database_url).replace("postgresql://", "postgresql+asyncpg://")
    with redis(site.folder) as broker:
        environment = plain_environment(
            DATABASE_URI=url, REDIS_URI=f"redis://127.0.0.1:{broker.port}/0"
        )
        for processes in (1, site.processes):
            port = free_port()
            command = [str(program_of("runtime_pg")), "serve", "--port", str(port)]
            command += ["--workers", str(processes), "--n-jobs-per-worker", _JOBS]
            with serving(
                "runtime_pg",
                command,
                port,
                environment,
                folder=site.folder,
                ready="/ok",
                work_dir=site.folder,
            ) as server:
                # The first one only makes the tables, as two that begin together cannot.
                if processes == site.processes:
                    yield [server, broker]
                    return


@contextmanager
def graphharbor(site: Site) -> Iterator[Sequence[ServerProcess]]:
    """One process that answers and one that works: more of the first it does not start."""
    program = str(program_of("graphharbor"))
    with ExitStack() as stack:
        broker = stack.enter_context(redis(site.folder))
        environment = plain_environment(
            DATABASE_URI=url_of(site.database_url),
            REDIS_URI=f"redis://127.0.0.1:{broker.port}/0",
        )

        try:
            subprocess.run(  # noqa: S603 - our own command
                [program, "migrate", "upgrade"],
                env=environment,
                cwd=site.folder,
                check=True,
                capture_output=True,
                timeout=_MIGRATION_SECONDS,
            )
        except subprocess.SubprocessError as error:
            raise NotServing(f"graphharbor did not make its tables: {error}") from error
        port = free_port()
        commands = {
            "graphharbor_worker": (["worker", "--n-jobs-per-worker", _JOBS], None),
            "graphharbor": (["serve", "--port", str(port)], "/ok"),
        }
        worker, server = (
            stack.enter_context(
                serving(
                    name,
                    [program, *arguments],
                    port,
                    environment,
                    folder=site.folder,
                    ready=ready,
                    work_dir=site.folder,
                )
            )
            for name, (arguments, ready) in commands.items()
        )
        yield [server, worker, broker]
