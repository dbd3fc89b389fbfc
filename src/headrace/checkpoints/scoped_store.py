"""The store of one scope: its namespaces lie below two labels that nobody else can name.

The first label is :data:`ROOT`, the second one the scope. The store itself, without a scope, has
all other namespaces. It refuses the first label, and does not find what lies below it. Labels of
callers come behind those of the scope, so none of them leads out of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from headrace.checkpoints.semantic_search import Hit
from headrace.checkpoints.store import Store
from headrace.checkpoints.store_index import StoreIndex
from headrace.checkpoints.store_roots import ROOT, ScopedLabels

#: The scope of the run or request that the calling task works for.
_current: ContextVar[str | None] = ContextVar("headrace_store_scope", default=None)


@contextmanager
def in_store_scope(scope: str | None) -> Iterator[None]:
    """Within the block, graphs see this scope of the store; None: the store without a scope."""
    before = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(before)


def use_store_scope(scope: str | None) -> None:
    """From now on, graphs of the calling task see this scope of the store."""
    _current.set(scope)


class ScopedStore(BaseStore):
    """:param scope: None: the store without a scope."""

    supports_ttl = True

    def __init__(self, store: Store, scope: str | None) -> None:
        self._store = store
        self._scope = scope

    @property
    def scope(self) -> str | None:
        """Whose namespaces it has."""
        return self._scope

    @property
    def ttl_config(self) -> TTLConfig | None:  # type: ignore[override] # a property there is none
        return self._store.ttl_config

    @property
    def index(self) -> StoreIndex | None:
        """The semantic index of the store."""
        return self._store.index

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As :meth:`Store.abatch`. One operation alone joins others that come at the same time."""
        given, scope = list(ops), self.scope
        inner = [_into(scope, op) for op in given]
        if len(inner) == 1:
            results = [await self._store.submitted(inner[0])]
        else:
            results = await self._store.abatch(inner)
        return [_out_of(scope, result) for result in results]

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """As :meth:`abatch`, for a thread beside the event loop."""
        scope = self.scope
        results = self._store.batch([_into(scope, op) for op in ops])
        return [_out_of(scope, result) for result in results]

    async def size(self, op: SearchOp, *, max_bytes: int) -> tuple[int, int]:
        """As :meth:`Store.size`."""
        return await self._store.size(_search_into(self.scope, op), max_bytes=max_bytes)

    async def hits(self, op: SearchOp, *, max_bytes: int) -> list[Hit]:
        """As :meth:`Store.hits`."""
        return await self._store.hits(_search_into(self.scope, op), max_bytes=max_bytes)

    async def found(self, hits: Sequence[Hit], *, refresh_ttl: bool | None) -> list[SearchItem]:
        """As :meth:`Store.found`."""
        items = await self._store.found(hits, refresh_ttl=refresh_ttl)
        found: list[SearchItem] = _out_of(self.scope, items)
        return found


class RunStore(ScopedStore):
    """The store of all graphs of a process: each run sees the scope of its caller.

    A graph is made once, and may keep the store that it gets. So the scope is that of the calling
    task. A thread that a node has made by itself has no scope, and sees the store without one;
    the store of its runtime (``runtime.store``) has the scope also there.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store, None)

    @property
    def scope(self) -> str | None:
        return _current.get()

    def of(self, scope: str) -> ScopedStore:
        """The store of one scope, in any thread."""
        return ScopedStore(self._store, scope)


def _labels(scope: str | None, labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(labels) if scope is None else ScopedLabels((ROOT, scope, *labels))


def _search_into(scope: str | None, op: SearchOp) -> SearchOp:
    return op._replace(namespace_prefix=_labels(scope, op.namespace_prefix))


def _into(scope: str | None, op: Op) -> Op:
    """The operation on the whole store."""
    if scope is None:
        return op
    if isinstance(op, GetOp | PutOp):
        return op._replace(namespace=_labels(scope, op.namespace))
    if isinstance(op, SearchOp):
        return _search_into(scope, op)
    if isinstance(op, ListNamespacesOp):
        # Its statement leaves the labels of the scope out, so the other conditions stay.
        own = MatchCondition("prefix", _labels(scope, ()))
        return op._replace(match_conditions=(own, *(op.match_conditions or ())))
    raise ValueError(f"the store has no operation {type(op).__name__}")


def _out_of(scope: str | None, result: Any) -> Any:
    """The result as it would be in a store of this scope alone."""
    if scope is None:
        return result
    if isinstance(result, Item):
        # A copy: equal reads that come at the same time have one result.
        own = copy(result)
        own.namespace = tuple(result.namespace[2:])
        return own
    if isinstance(result, list):
        # A list of namespaces has none of the scope's labels.
        return [_out_of(scope, one) if isinstance(one, Item) else one for one in result]
    return result
