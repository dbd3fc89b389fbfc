"""Rules of store items. The repository is the process's store, which graphs use too.

The API uses the namespaces of graphs: it finds an item of a node under ``("memories", "ada")``
there. Each caller has the namespaces of its own scope only (auth/store_scope.py), like its runs.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

from langgraph.store.base import NOT_PROVIDED, Item, SearchItem, SearchOp

from headrace.auth.principal import Principal
from headrace.auth.store_scope import store_scope
from headrace.checkpoints.answer_memory import AnswerMemory, Reading
from headrace.checkpoints.item_texts import refuse_paths
from headrace.checkpoints.row_pages import list_too_large
from headrace.checkpoints.scoped_store import ScopedStore
from headrace.checkpoints.store import Store
from headrace.errors import BadRequest, InvalidRequest
from headrace.request_limits import RequestLimits
from headrace.request_settings import AnswerSettings, RequestSettings
from headrace.retention_settings import StoreSettings
from headrace.store_items.limits import StoreLimits
from headrace.store_items.schemas import ItemDelete, ItemPut, ItemSearch, NamespaceSearch

_NO_INDEX = "this server has no semantic index (store.index of langgraph.json)"

#: What to do about a list that is too large.
_ASK_FOR_FEWER = "Ask for fewer with limit and offset."


class StoreService:
    """Each call raises :class:`InvalidRequest` for a request outside the limits.

    Each call raises TimeoutError when the store has not answered within
    ``request_timeout_seconds``. For nodes of graphs, the store itself repeats a call for longer.
    """

    def __init__(
        self,
        store: Store,
        settings: StoreSettings,
        memory: AnswerMemory | None = None,
        requests: RequestLimits | None = None,
    ) -> None:
        self._store = store
        self._memory = memory or AnswerMemory(AnswerSettings())
        self._limits = StoreLimits(settings)
        self._requests = requests or RequestLimits(RequestSettings())
        self._timeout_seconds = settings.request_timeout_seconds

    async def put(self, principal: Principal, body: ItemPut) -> None:
        """Write an item. It replaces the item with this key.

        :raises BadRequest: the namespace is empty.
        :raises EmbeddingRefused: the embedding model refuses a text of the item.
        :raises EmbeddingFailed: it failed, or took too long; the item is not written.
        """
        namespace = self._limits.new_path(body.namespace, body.key)
        self._limits.value(body.value)
        index = self._named_index(body)
        ttl = body.ttl if "ttl" in body.model_fields_set else NOT_PROVIDED
        async with asyncio.timeout(self._timeout_seconds + self._model_seconds):
            await self._of(principal).aput(namespace, body.key, body.value, index, ttl=ttl)

    async def get(
        self, principal: Principal, namespace: Sequence[str], key: str, *, refresh_ttl: bool | None
    ) -> Item | None:
        """The item, or None.

        :raises BadRequest: the namespace is empty.
        """
        if not namespace:
            raise BadRequest("Namespace cannot be empty.")
        path = self._limits.path(namespace, key)
        async with asyncio.timeout(self._timeout_seconds):
            return await self._of(principal).aget(path, key, refresh_ttl=refresh_ttl)

    async def delete(self, principal: Principal, body: ItemDelete) -> None:
        """Delete an item, if it is there."""
        async with asyncio.timeout(self._timeout_seconds):
            await self._of(principal).adelete(self._limits.path(body.namespace, body.key), body.key)

    def reading(self) -> Reading:
        """Begin an answer with items. The caller releases it."""
        return self._memory.reading()

    async def search(
        self, principal: Principal, query: ItemSearch, reading: Reading
    ) -> list[SearchItem]:
        """A page of the items below a namespace: last changed first, or closest to a query first.

        :raises EmbeddingRefused: the embedding model refuses the query.
        :raises EmbeddingFailed: it failed, or took too long.
        :raises AnswerTooLarge: the page is larger than one answer may be.
        :raises AnswersFull: other answers hold all memory for answers.
        """
        self._requests.filter(query.filter, "filter")
        self._limits.filter(query.filter)
        labels = self._limits.labels(query.namespace_prefix or ())
        store = self._of(principal)
        op = SearchOp(labels, query.filter, query.limit, query.offset, query.query)
        if query.query:
            return await self._search_by_meaning(store, op, query.refresh_ttl, reading)
        max_bytes = self._memory.settings.max_bytes
        async with asyncio.timeout(self._timeout_seconds):
            count, size_bytes = await store.size(op, max_bytes=max_bytes)
        await self._take(count, size_bytes, reading)
        async with asyncio.timeout(self._timeout_seconds):
            return await store.asearch(
                labels,
                filter=query.filter,
                limit=query.limit,
                offset=query.offset,
                refresh_ttl=query.refresh_ttl,
            )

    async def _search_by_meaning(
        self, store: ScopedStore, op: SearchOp, refresh_ttl: bool | None, reading: Reading
    ) -> list[SearchItem]:
        if self._store.index is None:
            raise InvalidRequest(
                f"query: {_NO_INDEX}, so items that do not match would be found; leave query out,"
                " and narrow the search by namespace_prefix and filter"
            )
        max_bytes = self._memory.settings.max_bytes
        async with asyncio.timeout(self._timeout_seconds + self._model_seconds):
            hits = await store.hits(op, max_bytes=max_bytes)
        await self._take(len(hits), sum(hit.size_bytes for hit in hits), reading)
        async with asyncio.timeout(self._timeout_seconds):
            return await store.found(hits, refresh_ttl=refresh_ttl)

    async def _take(self, count: int, size_bytes: int, reading: Reading) -> None:
        """:raises AnswerTooLarge, AnswersFull: the page is too large, now or for ever."""
        if count > 1 and size_bytes > self._memory.settings.max_bytes:
            raise list_too_large(count, size_bytes, reading, what="items", instead=_ASK_FOR_FEWER)
        await reading.take(size_bytes)

    def _named_index(self, body: ItemPut) -> list[str] | Literal[False] | None:
        """What the store is told of ``index``.

        :raises InvalidRequest: the request names paths, and there is no index; or too many.
        """
        if self._store.index is None and body.index:
            raise InvalidRequest(f"index: {_NO_INDEX}; leave index out, or send false")
        if not isinstance(body.index, list):
            # True means the default: the fields of the index.
            return False if body.index is False else None
        refuse_paths(body.index)
        return body.index

    @property
    def _model_seconds(self) -> float:
        index = self._store.index
        return 0.0 if index is None else index.wait_seconds

    async def namespaces(
        self, principal: Principal, query: NamespaceSearch
    ) -> list[tuple[str, ...]]:
        """A page of the namespaces that have items, in alphabetical order."""
        async with asyncio.timeout(self._timeout_seconds):
            return await self._of(principal).alist_namespaces(
                prefix=self._limits.labels(query.prefix or ()) or None,
                suffix=self._limits.labels(query.suffix or ()) or None,
                max_depth=query.max_depth,
                limit=query.limit,
                offset=query.offset,
            )

    def _of(self, principal: Principal) -> ScopedStore:
        return ScopedStore(self._store, store_scope(principal))
