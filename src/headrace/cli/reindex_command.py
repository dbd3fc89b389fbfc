"""``headrace store reindex`` itself: embeds the items of the store, and prints how far it is."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import typer
from prometheus_client import CollectorRegistry
from pydantic import ValidationError
from pydantic_settings import SettingsError

from headrace.checkpoints.embedder import Embedder
from headrace.checkpoints.reindex import Reindexed, reindexing
from headrace.checkpoints.store_index import ItemIndexer
from headrace.cli.options import read_dotenv, read_settings, settings_refusal
from headrace.cli.output import complain
from headrace.cli.workspace import Workspace
from headrace.db import schema
from headrace.db.faults import refused_statements
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.errors import StartupRefusal
from headrace.graphs.embeddings import LoadedIndex, load_index
from headrace.observability.declarations import Declarations
from headrace.observability.index_metrics import IndexMetrics
from headrace.observability.logging import configure_logging
from headrace.observability.printable import printable
from headrace.server.own_secrets import mask_tracebacks
from headrace.settings import Settings, set_environment

#: How often a line is printed.
_LINE_SECONDS = 5.0

#: A command waits for its model, and for no other caller.
_PATIENT = {"waiting_texts": 10_000_000, "wait_seconds": 3600.0}


def main(arguments: Sequence[str]) -> int:
    """Reindex; the exit code is 1 if it was refused.

    :param arguments: ``all`` or ``missing``, and the size of a batch.
    """
    kind, batch = arguments
    try:
        with ExitStack() as stack, refused_statements():
            read_dotenv(Path.cwd())
            settings, manifest = read_settings()
            configure_logging(settings.observability)
            loaded = load_index(manifest)
            if loaded is None:
                raise _no_index()
            settings = _with_embedded_postgres(settings, stack)
            schema.refuse_unfit(schema.state(settings.database, migrations=True))
            done = asyncio.run(
                _reindex(settings, loaded, everything=kind == "all", batch=int(batch))
            )
    except (ValidationError, SettingsError) as error:
        return _fail(settings_refusal(error))
    except StartupRefusal as refusal:
        return _fail(refusal)
    typer.echo(f"done: {_told(done)}")
    for (prefix, key), why in done.refused.items():
        typer.echo(f"left out: {printable(prefix)} {printable(key)}: {why}", err=True)
    return 0


async def _reindex(
    settings: Settings, loaded: LoadedIndex, *, everything: bool, batch: int
) -> Reindexed:
    patient = settings.index.model_copy(update=_PATIENT)
    metrics = IndexMetrics(Declarations(CollectorRegistry()))
    embedder = Embedder(loaded.embeddings, loaded.index, patient, metrics)
    indexer = ItemIndexer(loaded.index, patient, embedder)
    done, told_at = Reindexed(), monotonic()
    try:
        async with reindexing(settings.database, indexer, loaded.index, batch=batch) as work:
            async for done in work.run(everything=everything):
                if monotonic() - told_at > _LINE_SECONDS:
                    told_at = monotonic()
                    typer.echo(_told(done))
    finally:
        await embedder.close()
    return done


def _with_embedded_postgres(settings: Settings, stack: ExitStack) -> Settings:
    """The settings; without a database, with that of ``headrace dev`` in this folder, started."""
    folder = Path.cwd() / ".headrace"
    if settings.database.url is not None or not (folder / "pg").exists():
        return settings
    workspace = stack.enter_context(Workspace(folder))
    workspace.stop_leftover_server()
    postgres = EmbeddedPostgres(workspace.data)
    stack.callback(postgres.stop)
    postgres.start()
    set_environment({"HEADRACE_DATABASE__URL": postgres.dsn()})
    return Settings()


def _told(done: Reindexed) -> str:
    how = "made anew" if done.rebuilt else "completed"
    return f"{done.items} items, {done.vectors} vectors {how}"


def _no_index() -> StartupRefusal:
    return StartupRefusal(
        "HR104",
        where="langgraph.json",
        what="it has no store.index, so there is nothing to embed",
        remedy="Run the command beside the langgraph.json of the server, or name it in"
        " HEADRACE_CONFIG.",
    )


def _fail(refusal: StartupRefusal) -> int:
    complain(refusal)
    return 1


if __name__ == "__main__":
    mask_tracebacks()
    sys.exit(main(sys.argv[1:]))
