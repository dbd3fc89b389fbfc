"""Rules of store items. The repository is the process's store, which graphs use too.

The API uses the namespaces of graphs: it finds an item of a node under ``("memories", "ada")``
there. Namespaces know no tenant, so the whole store belongs to the default tenant. Other tenants
are refused: a graph could not keep their namespaces apart.
"""

import asyncio
from collections.abc import Sequence

from langgraph.store.base import NOT_PROVIDED, Item, SearchItem, SearchOp

from headrace.auth.principal import DEFAULT_TENANT, Principal
from headrace.checkpoints.answer_memory import AnswerMemory, Reading
from headrace.checkpoints.row_pages import list_too_large
from headrace.checkpoints.store import Store
from headrace.errors import BadRequest, Forbidden
from headrace.request_limits import RequestLimits
from headrace.request_settings import AnswerSettings, RequestSettings
from headrace.retention_settings import StoreSettings
from headrace.store_items.limits import StoreLimits
from headrace.store_items.schemas import ItemDelete, ItemPut, ItemSearch, NamespaceSearch

#: What to do about a list that is too large.
_ASK_FOR_FEWER = "Ask for fewer with limit and offset."


class StoreNotShared(Forbidden):
    """The store belongs to the default tenant; other tenants cannot use it yet."""

    code = "store_not_shared"


class StoreService:
    """Each call raises :class:`InvalidRequest` for a request outside the limits.

    Each call raises TimeoutError when the store has not answered within
    ``request_timeout_seconds``, and :class:`StoreNotShared` for other tenants. For nodes of graphs,
    the store itself repeats a call for longer.
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
        """
        _admit(principal)
        namespace = self._limits.new_path(body.namespace, body.key)
        self._limits.value(body.value)
        ttl = body.ttl if "ttl" in body.model_fields_set else NOT_PROVIDED
        # True means the default: the fields that the store's index names.
        index = None if body.index is True else body.index
        async with asyncio.timeout(self._timeout_seconds):
            await self._store.aput(namespace, body.key, body.value, index, ttl=ttl)

    async def get(
        self, principal: Principal, namespace: Sequence[str], key: str, *, refresh_ttl: bool | None
    ) -> Item | None:
        """The item, or None.

        :raises BadRequest: the namespace is empty.
        """
        _admit(principal)
        if not namespace:
            raise BadRequest("Namespace cannot be empty.")
        path = self._limits.path(namespace, key)
        async with asyncio.timeout(self._timeout_seconds):
            return await self._store.aget(path, key, refresh_ttl=refresh_ttl)

    async def delete(self, principal: Principal, body: ItemDelete) -> None:
        """Delete an item, if it is there."""
        _admit(principal)
        async with asyncio.timeout(self._timeout_seconds):
            await self._store.adelete(self._limits.path(body.namespace, body.key), body.key)

    def reading(self) -> Reading:
        """Begin an answer with items. The caller releases it."""
        return self._memory.reading()

    async def search(
        self, principal: Principal, query: ItemSearch, reading: Reading
    ) -> list[SearchItem]:
        """A page of the items below a namespace, last changed first.

        :raises AnswerTooLarge: the page is larger than one answer may be.
        :raises AnswersFull: other answers hold all memory for answers.
        """
        _admit(principal)
        self._requests.filter(query.filter, "filter")
        self._limits.filter(query.filter)
        labels = self._limits.labels(query.namespace_prefix)
        op = SearchOp(labels, query.filter, query.limit, query.offset)
        max_bytes = self._memory.settings.max_bytes
        async with asyncio.timeout(self._timeout_seconds):
            count, size_bytes = await self._store.size(op, max_bytes=max_bytes)
        if count > 1 and size_bytes > max_bytes:
            raise list_too_large(count, size_bytes, reading, what="items", instead=_ASK_FOR_FEWER)
        await reading.take(size_bytes)
        async with asyncio.timeout(self._timeout_seconds):
            return await self._store.asearch(
                labels,
                query=query.query,
                filter=query.filter,
                limit=query.limit,
                offset=query.offset,
                refresh_ttl=query.refresh_ttl,
            )

    async def namespaces(
        self, principal: Principal, query: NamespaceSearch
    ) -> list[tuple[str, ...]]:
        """A page of the namespaces that have items, in alphabetical order."""
        _admit(principal)
        async with asyncio.timeout(self._timeout_seconds):
            return await self._store.alist_namespaces(
                prefix=self._limits.labels(query.prefix or ()) or None,
                suffix=self._limits.labels(query.suffix or ()) or None,
                max_depth=query.max_depth,
                limit=query.limit,
                offset=query.offset,
            )


def _admit(principal: Principal) -> None:
    if principal.tenant != DEFAULT_TENANT:
        raise StoreNotShared
