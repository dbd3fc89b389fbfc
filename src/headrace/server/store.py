"""Opens the store of a process, and its index by meaning."""

from contextlib import AsyncExitStack

import structlog

from headrace.checkpoints.embedder import Embedder
from headrace.checkpoints.semantic_search import SemanticSearch
from headrace.checkpoints.store import Store
from headrace.checkpoints.store_index import StoreIndex
from headrace.checkpoints.store_sweeper import StoreSweeper
from headrace.db.pool import SharedPool
from headrace.db.vector_tables import read_vector_tables, refuse_unfit_vectors
from headrace.graphs.embeddings import LoadedIndex
from headrace.graphs.persistence_entries import (
    StoreTTL,
)
from headrace.lifecycle import Tasks
from headrace.observability.metrics import Metrics
from headrace.server.database import refused_start
from headrace.settings import Settings
from headrace.shares import Share

_log = structlog.stdlib.get_logger("headrace.lifespan")


def open_store(
    settings: Settings,
    pool: SharedPool,
    metrics: Metrics,
    tasks: Tasks,
    ttl: StoreTTL,
    index: StoreIndex | None,
    stack: AsyncExitStack,
) -> Store:
    """The store of graphs and callers; ``stack`` closes it."""
    store = Store(
        pool,
        observe=metrics.checkpoints.observe_store,
        ttl=ttl.as_config(),
        acquire_timeout_seconds=settings.database.run_acquire_timeout_seconds,
        operation_timeout_seconds=settings.store.operation_timeout_seconds,
        retry_seconds=settings.store.retry_seconds,
        index=index,
    )
    stack.push_async_callback(store.close)
    sweeper = StoreSweeper(
        pool,
        interval_seconds=ttl.sweep_interval_minutes * 60,
        count=metrics.retention.count_expired_items,
    )
    sweeper.start(tasks)
    return store


async def open_index(
    settings: Settings,
    pool: SharedPool,
    metrics: Metrics,
    share: Share,
    loaded: LoadedIndex | None,
) -> StoreIndex | None:
    """The index of the store, if the manifest asks for one.

    :param share: of the embedding model, for one scope of the store.
    :raises StartupRefusal: HR301 the database, HR331, HR332, HR333 the tables of the vectors.
    """
    if loaded is None:
        return None
    with refused_start(settings.database, pool):
        async with pool.connection() as connection:
            found = await read_vector_tables(connection)
    refuse_unfit_vectors(found, loaded.index)
    if found.ann != loaded.index.ann or found.fields != loaded.index.fields:
        _log.warning(
            "store_index_differs",
            index=found.ann,
            wanted=loaded.index.ann,
            fields=found.fields,
            wanted_fields=loaded.index.fields,
            remedy="headrace store reindex",
        )
    embedder = Embedder(loaded.embeddings, loaded.index, settings.index, metrics.index, share)
    search = SemanticSearch(
        pool,
        loaded.index,
        found.home,
        settings.index,
        metrics.index,
        acquire_timeout_seconds=settings.database.run_acquire_timeout_seconds,
        operation_timeout_seconds=settings.store.operation_timeout_seconds,
    )
    _log.info("store_index_opened", embed=loaded.index.embed, vectors=loaded.index.column_type)
    return StoreIndex(loaded.index, found.home, settings.index, embedder, search)
