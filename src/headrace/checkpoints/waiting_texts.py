"""Texts that wait for the embedding model. Scopes of the store take turns, so that none of them
waits behind all texts of another.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.checkpoints.vector_texts import VectorText
from headrace.index_settings import IndexSettings
from headrace.shares import Places, Share


@dataclass(frozen=True, slots=True, eq=False)
class WantedVectors:
    """Texts of one item, in one call of the model.

    :ivar scope: of the store, whose item it is; empty: the store without a scope.
    """

    scope: str
    texts: Sequence[str]
    size_bytes: int
    vectors: "asyncio.Future[list[VectorText]]"


class WaitingTexts:
    """One per process.

    :param share: a scope may have this part of its own and the free places.
    """

    def __init__(self, settings: IndexSettings, share: Share) -> None:
        self._batch_texts = settings.batch_texts
        self._batch_bytes = settings.batch_bytes
        self._places = Places(settings.waiting_texts, share)
        #: By scope; the first one has the next turn.
        self._queues: dict[str, deque[WantedVectors]] = {}

    def take(self, scope: str, count: int) -> bool:
        """Whether so many more texts of the scope may wait. An item whose scope has none waiting
        may wait if one place is free.
        """
        allowed = self._places.allowance(scope)
        return count <= allowed if self._places.held_by(scope) else bool(allowed)

    def add(self, wanted: WantedVectors) -> None:
        self._places.hold(wanted.scope, len(wanted.texts))
        self._queues.setdefault(wanted.scope, deque()).append(wanted)

    def of(self, scope: str) -> bool:
        """Whether texts of the scope wait."""
        return scope in self._queues

    def next_batch(self, scope: str) -> list[WantedVectors]:
        """What one call should ask for: first an item of ``scope``, then one of each scope in turn,
        as far as they fit. Those that nobody waits for any more are left out.
        """
        batch: list[WantedVectors] = []
        texts = size_bytes = 0
        while self._queues:
            turn = scope if not batch and scope in self._queues else next(iter(self._queues))
            one = self._queues[turn][0]
            if not one.vectors.done():
                texts, size_bytes = texts + len(one.texts), size_bytes + one.size_bytes
                full = texts > self._batch_texts or size_bytes > self._batch_bytes
                if batch and full:
                    break
                batch.append(one)
            self._remove_first(turn)
        return batch

    def forget(self, wanted: WantedVectors) -> None:
        """Nobody waits for it any more."""
        queue = self._queues.get(wanted.scope, ())
        if wanted in queue:
            queue.remove(wanted)  # type: ignore[union-attr]
            self._places.release(wanted.scope, len(wanted.texts))
            if not queue:
                del self._queues[wanted.scope]

    def _remove_first(self, scope: str) -> None:
        queue = self._queues.pop(scope)
        one = queue.popleft()
        self._places.release(scope, len(one.texts))
        if queue:
            # The other scopes have their turn first.
            self._queues[scope] = queue
