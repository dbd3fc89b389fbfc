"""The semantic index of the store: makes the vectors of items, and writes them with their items."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from langgraph.store.base import PutOp, SearchOp
from psycopg import AsyncCursor

from headrace.checkpoints.embedder import Embedder
from headrace.checkpoints.item_texts import item_texts, named_paths, refuse_text
from headrace.checkpoints.semantic_search import SemanticSearch
from headrace.checkpoints.store_roots import scope_of
from headrace.checkpoints.vector_sql import (
    FORGET_PATHS,
    FORGET_VECTORS,
    INSERT_PATHS,
    VectorSql,
)
from headrace.db.vector_index import VectorIndex
from headrace.index_settings import IndexSettings
from headrace.thread_pool import in_a_thread

#: The key of an item: namespace and key.
ItemKey = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class IndexedItem:
    """What the index keeps of one item.

    :ivar paths: those that the put named; None: it left them to the index.
    :ivar vectors: by the name of the field.
    """

    paths: tuple[str, ...] | None
    vectors: Mapping[str, str]


class ItemIndexer:
    """Makes the vectors of items."""

    def __init__(self, index: VectorIndex, settings: IndexSettings, embedder: Embedder) -> None:
        self.embedder = embedder
        self._index = index
        self._settings = settings

    async def item(self, op: PutOp) -> IndexedItem | None:
        """What the index keeps of the item of a put; None for a deletion.

        :raises InvalidRequest: the paths or the texts are outside the limits.
        :raises EmbeddingRefused: the model refuses a text.
        :raises EmbeddingFailed: the model failed, or took too long.
        """
        if op.value is None:
            return None
        return await self.indexed(op.value, named_paths(op), scope_of(op.namespace))

    async def indexed(
        self, value: Mapping[str, Any], paths: tuple[str, ...] | None, scope: str = ""
    ) -> IndexedItem:
        """What the index keeps of an item with this value.

        :param paths: those that its put named; None: it left them to the index.
        :param scope: whose item it is.
        """
        if paths == ():
            return IndexedItem(paths, {})
        # A large value would hold the event loop up.
        extract = partial(item_texts, value, paths, self._index, self._settings)
        texts = await in_a_thread(extract)
        if not texts:
            return IndexedItem(paths, {})
        vectors = await self.embedder.documents(list(texts.values()), scope)
        return IndexedItem(paths, dict(zip(texts, vectors, strict=True)))


class StoreIndex(ItemIndexer):
    """One per process."""

    def __init__(
        self,
        index: VectorIndex,
        home: str,
        settings: IndexSettings,
        embedder: Embedder,
        search: SemanticSearch,
    ) -> None:
        super().__init__(index, settings, embedder)
        self.search = search
        self._insert = VectorSql(index, home).insert()

    @property
    def wait_seconds(self) -> float:
        """How long a put or a search may wait for the model."""
        return self._settings.wait_seconds

    async def query(self, op: SearchOp) -> str:
        """The vector of a search by meaning.

        :raises InvalidRequest: the text is longer than one of an item may be.
        :raises EmbeddingRefused: the model refuses it.
        :raises EmbeddingFailed: the model failed, or took too long.
        """
        text = op.query or ""
        refuse_text("query", text, self._settings)
        return await self.embedder.query(text, scope_of(op.namespace_prefix))

    async def write(
        self, puts: Sequence[PutOp], items: Mapping[ItemKey, IndexedItem], cursor: AsyncCursor[Any]
    ) -> None:
        """Replace what the index keeps of the items of these puts."""
        last = {(op.namespace, op.key): op for op in puts}
        kept = [key for key, op in last.items() if op.value is not None]
        if not kept:
            return  # the vectors of deleted items are deleted with them
        keys = [[".".join(namespace) for namespace, _ in kept], [key for _, key in kept]]
        await cursor.execute(FORGET_VECTORS, keys)
        await cursor.execute(FORGET_PATHS, keys)
        rows = [
            (".".join(namespace), key, field, vector)
            for namespace, key in kept
            if (item := items.get((namespace, key))) is not None
            for field, vector in item.vectors.items()
        ]
        if rows:
            await cursor.execute(self._insert, [list(column) for column in zip(*rows, strict=True)])
        paths = [
            (".".join(namespace), key, json.dumps(item.paths))
            for namespace, key in kept
            if (item := items.get((namespace, key))) is not None and item.paths is not None
        ]
        if paths:
            await cursor.execute(
                INSERT_PATHS, [list(column) for column in zip(*paths, strict=True)]
            )


def is_semantic(op: Any) -> bool:
    """Whether it is a search by meaning."""
    return isinstance(op, SearchOp) and bool(op.query)
