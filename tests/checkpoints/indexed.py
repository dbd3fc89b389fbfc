"""A store with a semantic index, on a test's own database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import TTLConfig, ensure_embeddings
from prometheus_client import CollectorRegistry

from headrace.checkpoints.embedder import Embedder
from headrace.checkpoints.semantic_search import SemanticSearch
from headrace.checkpoints.store import Store
from headrace.checkpoints.store_index import StoreIndex
from headrace.db.migrate import prepare_index
from headrace.db.pool import SharedPool
from headrace.db.vector_index import VectorIndex
from headrace.db.vector_tables import read_vector_tables, refuse_unfit_vectors
from headrace.index_settings import IndexSettings
from headrace.observability.declarations import Declarations
from headrace.observability.index_metrics import IndexMetrics
from headrace.shares import Share
from tests.support.database import database_settings
from tests.support.words import DIMS, embed

INDEX = VectorIndex(dims=DIMS, embed="./words.py:embed", fields=("text",))


class Figures:
    """The metrics of a test's own index."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = IndexMetrics(Declarations(self.registry))

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def plans(self) -> dict[str, float]:
        """How many searches were done in which way."""
        name = "headrace_semantic_search_seconds_count"
        found = {plan: self.value(name, plan=plan) for plan in ("narrow", "index", "exact")}
        return {plan: count for plan, count in found.items() if count}


@asynccontextmanager
async def open_store(
    url: str,
    pool: SharedPool,
    index: VectorIndex = INDEX,
    model: Embeddings | Callable[..., Any] = embed,
    *,
    figures: Figures | None = None,
    ttl: TTLConfig | None = None,
    prepared: bool = True,
    schema: str = "",
    share: float = 1.0,
    **settings: Any,
) -> AsyncIterator[Store]:
    if prepared:
        given = database_settings(url, **({"schema": schema} if schema else {}))
        await asyncio.to_thread(prepare_index, given, index)
    async with pool.connection() as connection:
        found = await read_vector_tables(connection)
    refuse_unfit_vectors(found, index)
    metrics = (figures or Figures()).metrics
    chosen = IndexSettings(**settings)
    embedder = Embedder(ensure_embeddings(model), index, chosen, metrics, Share(share))
    search = SemanticSearch(
        pool,
        index,
        found.home,
        chosen,
        metrics,
        acquire_timeout_seconds=5,
        operation_timeout_seconds=10,
    )
    store = Store(
        pool,
        observe=lambda operation, seconds: None,
        ttl=ttl,
        index=StoreIndex(index, found.home, chosen, embedder, search),
    )
    try:
        yield store
    finally:
        await store.close()
