"""Puts that wait for their vectors, before they join a batch.

Puts to different keys do not wait for each other. Those to one key stay in order: the last one
wins, however long the model takes for each.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from langgraph.store.base import Op

from headrace.checkpoints.store_index import IndexedItem, ItemKey, StoreIndex
from headrace.lifecycle import Tasks

_Asked = tuple["asyncio.Future[Any]", Op]


class IndexedPuts:
    """:param add: puts an operation into a batch."""

    def __init__(self, index: StoreIndex, tasks: Tasks, add: Callable[[_Asked], None]) -> None:
        self._index = index
        self._tasks = tasks
        self._add = add
        #: The last put to each key that waits.
        self._last: dict[ItemKey, asyncio.Task[None]] = {}
        #: What the index keeps of the items of puts that are not answered yet.
        self._items: dict[asyncio.Future[Any], IndexedItem] = {}

    def add(self, asked: _Asked) -> None:
        """Make the vectors of this put's item, then put it into a batch."""
        key = (asked[1].namespace, asked[1].key)  # type: ignore[union-attr]
        try:
            earlier = self._last.get(key)
        except Exception as error:
            # A user's key may have no hash.
            if not asked[0].done():
                asked[0].set_exception(error)
            return
        waiting = self._tasks.start(
            self._prepare(asked, earlier), name="store-put-indexed", context=Context()
        )
        self._last[key] = waiting
        waiting.add_done_callback(lambda task: self._forget(key, task))

    def items_of(self, asked: Iterable[_Asked]) -> dict[ItemKey, IndexedItem]:
        """What the index keeps of the items of these puts, the last put to a key."""
        found: dict[ItemKey, IndexedItem] = {}
        for future, op in asked:
            if (item := self._items.get(future)) is not None:
                found[op.namespace, op.key] = item  # type: ignore[union-attr]
        return found

    async def _prepare(self, asked: _Asked, earlier: "asyncio.Task[None] | None") -> None:
        future, op = asked
        try:
            item = await self._index.item(op)  # type: ignore[arg-type]
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if item is not None and not future.done():
                self._items[future] = item
                future.add_done_callback(lambda done: self._items.pop(done, None))
        if earlier is not None:
            await asyncio.wait({earlier})
        if not future.done():
            self._add(asked)

    def _forget(self, key: ItemKey, task: "asyncio.Task[None]") -> None:
        if self._last.get(key) is task:
            del self._last[key]
