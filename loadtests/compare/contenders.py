"""Who is compared: how each is started, what it is asked, and what it does not keep."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile

from langgraph.checkpoint.postgres import PostgresSaver

from loadtests.compare.workloads import Traits
from loadtests.measuring.database import MeasuredDatabase, fresh_database
from loadtests.measuring.servers import (
    ServerProcess,
    headrace_server,
    uvicorn_server,
    write_manifest,
)
from loadtests.peers import external
from loadtests.peers.external import Site

_GRAPHS = Path(external.__file__).with_name("graphs.py")
_NAMES = ("trivial", "steady")
_RUNS = frozenset({"wait", "stream", "second_turn", "long_thread"})
_EVERY = _RUNS | {"threads", "state"}


@dataclass(frozen=True)
class Place:
    """What contenders are started in: ``folder`` is one contender's own."""

    admin_url: str
    folder: Path
    processes: int


@dataclass(frozen=True)
class Served:
    """A running contender: the first of ``servers`` is asked, all of them are its cost."""

    servers: Sequence[ServerProcess]
    #: None for one that uses none.
    database: MeasuredDatabase | None

    @property
    def port(self) -> int:
        return self.servers[0].port

    def cpu_seconds(self) -> float:
        return sum(server.cpu_seconds() for server in self.servers)


@dataclass(frozen=True)
class HttpContender:
    """``said`` tells what it does not do durably; ``durable``, that it keeps runs in Postgres."""

    name: str
    title: str
    said: str
    serve: Callable[[Place], AbstractContextManager[Served]]
    workloads: frozenset[str]
    durable: bool = True
    traits: Traits = field(default_factory=Traits)
    #: The program of others that it needs; None: it is part of this repository.
    environment: str | None = None


@contextmanager
def _headrace(place: Place) -> Iterator[Served]:
    manifest = write_manifest(place.folder, {name: f"{_GRAPHS}:{name}" for name in _NAMES})
    with (
        fresh_database(place.admin_url) as database,
        headrace_server(
            database.url, manifest=manifest, folder=place.folder, processes=place.processes
        ) as server,
    ):
        yield Served([server], database)


def _plain(module: str, *, database: bool) -> Callable[[Place], AbstractContextManager[Served]]:
    """A server of ``loadtests/peers`` under uvicorn."""

    @contextmanager
    def served(place: Place) -> Iterator[Served]:
        with ExitStack() as stack:
            made = None
            settings: dict[str, str] = {}
            if database:
                made = stack.enter_context(fresh_database(place.admin_url, migrated=False))
                with PostgresSaver.from_conn_string(made.url) as saver:
                    saver.setup()
                settings["DATABASE_URL"] = made.url
            server = uvicorn_server(
                module,
                f"loadtests.peers.{module}:app",
                folder=place.folder,
                processes=place.processes,
                settings=settings,
            )
            yield Served([stack.enter_context(server)], made)

    return served


def _external(
    start: Callable[[Site], AbstractContextManager[Sequence[ServerProcess]]], *, database: bool
) -> Callable[[Place], AbstractContextManager[Served]]:
    """A server of others, in a folder with our graphs."""

    @contextmanager
    def served(place: Place) -> Iterator[Served]:
        copyfile(_GRAPHS, place.folder / _GRAPHS.name)
        write_manifest(place.folder, {name: f"./{_GRAPHS.name}:{name}" for name in _NAMES})
        with ExitStack() as stack:
            made = None
            if database:
                made = stack.enter_context(fresh_database(place.admin_url, migrated=False))
            site = Site(place.folder, "" if made is None else made.url, place.processes)
            yield Served(stack.enter_context(start(site)), made)

    return served


HEADRACE = "headrace"
TUTORIAL = "tutorial"
CEILING = "ceiling"
LANGGRAPH_DEV = "langgraph_dev"

_ALL = (
    HttpContender(
        HEADRACE,
        "headrace",
        "keeps run, thread, checkpoints and the end of every run in Postgres before it answers;"
        " log and metrics are on.",
        _headrace,
        _EVERY | {"stateless", "empty"},
    ),
    HttpContender(
        TUTORIAL,
        "tutorial, one connection",
        "keeps the checkpoints and nothing else: a run that a crash ends is not known, and the"
        " events of a stream are gone with its client.",
        _plain("tutorial", database=True),
        _RUNS | {"state"},
    ),
    HttpContender(
        "upstream_pool",
        "upstream's saver on a pool",
        "keeps what the tutorial's server keeps, over ten connections for each process.",
        _plain("upstream_pool", database=True),
        _RUNS | {"state"},
    ),
    HttpContender(
        "memory",
        "in memory",
        "keeps everything in one process until it ends; the other process does not know it.",
        _plain("memory", database=False),
        _RUNS | {"state"},
        durable=False,
    ),
    HttpContender(
        CEILING,
        "no saver",
        "keeps nothing: the graph behind FastAPI. Its POST /threads stores nothing either.",
        _plain("ceiling", database=False),
        _RUNS | {"threads", "empty"},
        durable=False,
        traits=Traits(remembers=False),
    ),
    HttpContender(
        LANGGRAPH_DEV,
        "langgraph dev",
        "keeps runs, threads and checkpoints in the memory of its one process, and writes them to"
        " a file now and then; it is made for development.",
        _external(external.langgraph_dev, database=False),
        _EVERY,
        durable=False,
        environment=LANGGRAPH_DEV,
    ),
    HttpContender(
        "aegra",
        "aegra, with Redis",
        "keeps runs, threads and checkpoints in Postgres, and the events of running runs in Redis,"
        " for a while; runs/wait looks every two seconds whether the run has ended.",
        _external(external.aegra, database=True),
        _EVERY,
        environment="aegra",
    ),
    HttpContender(
        "aegra_alone",
        "aegra, one process",
        "keeps runs, threads and checkpoints in Postgres; a run that a crash ends is not taken up"
        " again, and events live in its one process.",
        _external(external.aegra_alone, database=True),
        _EVERY,
        environment="aegra",
    ),
    HttpContender(
        "runtime_pg",
        "langgraph-runtime-pg",
        "keeps runs, threads and checkpoints in Postgres, and wakes runs and passes events on over"
        " Redis, which keeps them for a while.",
        _external(external.runtime_pg, database=True),
        _EVERY,
        environment="runtime_pg",
    ),
    HttpContender(
        "graphharbor",
        "graphharbor",
        "keeps runs, threads and checkpoints in Postgres, and passes events on over Redis; one"
        " process answers, another works.",
        _external(external.graphharbor, database=True),
        _EVERY,
        environment="graphharbor",
    ),
)

CONTENDERS = {one.name: one for one in _ALL}
