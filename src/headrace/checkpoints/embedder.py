"""Asks the embedding model for vectors, with bounds on time, size and number.

Texts of puts that wait at the same time share calls. A call that fails is repeated: for each scope
of the store by itself, so that no scope pays for a text of another. If the model refuses the texts
of a scope, each put of them is asked about alone. Scopes also share calls and waiting places, so
that none of them takes all. No caller holds a connection of the pool meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from time import perf_counter
from typing import Any

import structlog
from langchain_core.embeddings import Embeddings
from langgraph.store.base.embed import EmbeddingsLambda

from headrace.checkpoints.vector_texts import ModelFault, VectorText, VectorTexts
from headrace.checkpoints.waiting_texts import WaitingTexts, WantedVectors
from headrace.db.vector_index import VectorIndex
from headrace.errors import EmbeddingRefused
from headrace.index_settings import IndexSettings
from headrace.lifecycle import Tasks
from headrace.observability.index_metrics import IndexMetrics
from headrace.shares import Gate, Places, Share
from headrace.thread_pool import in_a_thread
from headrace.unavailable_errors import EmbeddingFailed, EmbeddingsFull

_log = structlog.stdlib.get_logger("headrace.store")

#: Answers of a provider after which a repetition makes no sense: the text is the cause.
_TEXT_REFUSED = (400, 413, 422)
#: Others of them: the key, or the name of the model.
_SETUP_REFUSED = (401, 403, 404)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 2.0


class Embedder:
    """One per process; needs a running event loop.

    :param share: of the calls, and of the places for texts that wait, for one scope of the store
        once there are several; None: each may have all.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        index: VectorIndex,
        settings: IndexSettings,
        metrics: IndexMetrics,
        share: Share | None = None,
    ) -> None:
        self._vectors = VectorTexts(index)
        self._settings = settings
        self._metrics = metrics
        self._blocking = _is_blocking(embeddings)
        self._documents, self._query = _calls_of(embeddings, blocking=self._blocking)
        #: That of callers, and that of scopes: all callers may have one scope.
        self._callers_share, self._share = share or Share(), Share()
        self._first_scope: str | None = None
        self._several_scopes = False
        places = Places(settings.calls, self._share)
        self._calls = Gate(places, timeout_seconds=settings.wait_seconds)
        self._waiting = WaitingTexts(settings, self._share)
        #: Tasks that ask for the texts of a scope.
        self._workers: Counter[str] = Counter()
        self._tasks = Tasks()

    async def documents(self, texts: Sequence[str], scope: str = "") -> list[VectorText]:
        """The vectors of the texts of one item.

        :param scope: of the store, whose item it is; empty: the store without a scope.
        :raises EmbeddingRefused: the model refuses one of them.
        :raises EmbeddingFailed: it failed, or took longer than ``index.wait_seconds``.
        :raises EmbeddingsFull: too many texts wait already, of all scopes or of this one.
        """
        self._note(scope)
        if not self._waiting.take(scope, len(texts)):
            raise EmbeddingsFull
        loop = asyncio.get_running_loop()
        size = self._settings.batch_texts
        parts = [texts[at : at + size] for at in range(0, len(texts), size)]
        wanted = [
            WantedVectors(
                scope, part, sum(len(text.encode()) for text in part), loop.create_future()
            )
            for part in parts
        ]
        for one in wanted:
            self._enqueue(one)
        try:
            async with self._in_time():
                found = [await one.vectors for one in wanted]
        finally:
            for one in wanted:
                self._waiting.forget(one)
                if not one.vectors.cancel() and not one.vectors.cancelled():
                    # Nobody may wait for it any more, and asyncio would report its error.
                    one.vectors.exception()
        self._metrics.count_texts("item", len(texts))
        return [vector for part in found for vector in part]

    async def query(self, text: str, scope: str = "") -> VectorText:
        """The vector of a search.

        :param scope: of the store, in which the search is.
        :raises EmbeddingRefused: the model refuses the text.
        :raises EmbeddingFailed: it failed, or took longer than ``index.wait_seconds``.
        """
        self._note(scope)

        async def ask() -> Any:
            return [await self._query(text)]

        async with self._in_time():
            try:
                (vector,) = await self._repeated(ask, 1, scope)
            except ModelFault as fault:
                raise _refusal(fault) from fault
        self._metrics.count_texts("query", 1)
        return vector

    async def close(self) -> None:
        """Stop asking."""
        await self._tasks.stop()

    def _in_time(self) -> "_InTime":
        return _InTime(self._settings.wait_seconds)

    def _note(self, scope: str) -> None:
        """Once there are several scopes, none of them may have all."""
        if self._first_scope is None:
            self._first_scope = scope
        self._several_scopes |= scope != self._first_scope
        self._share.now = self._callers_share.now if self._several_scopes else 1.0

    def _enqueue(self, wanted: WantedVectors) -> None:
        self._waiting.add(wanted)
        if self._workers[wanted.scope] < self._settings.calls:
            self._workers[wanted.scope] += 1
            # The task works for others too: it must not have the context of one run.
            self._tasks.start(self._work(wanted.scope), name="store-embedder", context=Context())

    async def _work(self, scope: str) -> None:
        """Ask for the texts of a scope until none waits, and for those of others besides."""
        try:
            while self._waiting.of(scope):
                try:
                    await self._calls.take(scope)
                except TimeoutError:
                    continue  # Those that have waited as long as this have given up.
                # Another call may have taken all texts of the scope along: its place is not for
                # texts of others alone.
                batch = self._waiting.next_batch(scope) if self._waiting.of(scope) else []
                if batch:
                    await self._answer(batch, scope, placed=True)
                else:
                    self._calls.release(scope)
        finally:
            self._workers[scope] -= 1
            if not self._workers[scope]:
                del self._workers[scope]

    async def _answer(
        self, batch: Sequence[WantedVectors], scope: str, *, placed: bool = False
    ) -> None:
        """Ask for the vectors of texts; ``scope`` has the place.

        :param placed: it has it already.
        """
        texts = [text for one in batch for text in one.texts]
        parts = _by_scope(batch)
        try:
            vectors = await self._repeated(
                partial(self._documents, texts),
                len(texts),
                scope,
                placed=placed,
                # What a text of one scope costs is not for the others.
                attempts=1 if len(parts) > 1 else self._settings.attempts,
                is_wanted=lambda: not all(one.vectors.done() for one in batch),
            )
        except ModelFault as fault:
            if len(parts) > 1:
                for own, part in parts.items():
                    if wanted := [one for one in part if not one.vectors.done()]:
                        self._tasks.start(
                            self._answer(wanted, own), name="store-embedder", context=Context()
                        )
            elif len(batch) > 1 and fault.reason in ("refused", "unfit"):
                for one in batch:
                    if not one.vectors.done():
                        await self._answer([one], scope)
            else:
                for one in batch:
                    if not one.vectors.done():
                        one.vectors.set_exception(_refusal(fault))
            return
        at = 0
        for one in batch:
            if not one.vectors.done():
                one.vectors.set_result(vectors[at : at + len(one.texts)])
            at += len(one.texts)

    async def _repeated(
        self,
        ask: Callable[[], Awaitable[Any]],
        count: int,
        scope: str,
        *,
        placed: bool = False,
        attempts: int | None = None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> list[VectorText]:
        """
        :param placed: the scope has a place for the first call.
        :param attempts: None: those of the settings.
        :param is_wanted: whether anybody waits for the vectors.
        :raises ModelFault: the model failed for good.
        """
        most = attempts or self._settings.attempts
        tries = 0
        while True:
            tries += 1
            try:
                if not placed or tries > 1:
                    await self._take_place(scope)
                return self._vectors.checked(await self._asked(ask, scope), count)
            except ModelFault as fault:
                self._metrics.count_failure(fault.reason)
                last = tries >= most or not fault.repeatable or not is_wanted()
                _log.warning(
                    "embedding_failed",
                    reason=fault.reason,
                    texts=count,
                    attempt=tries,
                    error=str(fault),
                    exc_info=fault.__cause__ if last else None,
                )
                if last:
                    raise
            pause = _FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1)
            await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS))

    async def _take_place(self, scope: str) -> None:
        try:
            await self._calls.take(scope)
        except TimeoutError:
            seconds = self._settings.wait_seconds
            raise ModelFault(
                "timeout", f"no call ended within {seconds:g} s", repeatable=False
            ) from None

    async def _asked(self, ask: Callable[[], Awaitable[Any]], scope: str) -> Any:
        """What the model answers. The scope holds its place until the call has really ended: a
        function that blocks its thread goes on after its time is over.
        """
        call = self._tasks.start(_awaited(ask), name="embedding-call", context=Context())
        call.add_done_callback(partial(self._ended, scope))
        started = perf_counter()
        try:
            done, _ = await asyncio.wait({call}, timeout=self._settings.call_seconds)
        except asyncio.CancelledError:
            self._give_up(call)
            raise
        finally:
            self._metrics.observe_call(perf_counter() - started)
        if not done:
            self._give_up(call)
            seconds = self._settings.call_seconds
            raise ModelFault("timeout", f"no answer within {seconds:g} s", repeatable=True)
        if call.cancelled():
            raise ModelFault("error", "the call was cancelled", repeatable=True)
        if (error := call.exception()) is not None:
            raise _fault_of(error) from error
        return call.result()

    def _give_up(self, call: "asyncio.Task[Any]") -> None:
        if not self._blocking:
            call.cancel()

    def _ended(self, scope: str, call: "asyncio.Task[Any]") -> None:
        self._calls.release(scope)
        if not call.cancelled():
            # Nobody may wait for it any more, and asyncio would report its error.
            call.exception()


def _by_scope(batch: Sequence[WantedVectors]) -> dict[str, list[WantedVectors]]:
    parts: dict[str, list[WantedVectors]] = {}
    for one in batch:
        parts.setdefault(one.scope, []).append(one)
    return parts


class _InTime:
    """A bound on a block. If it passes, :class:`EmbeddingFailed` is raised."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._timeout.__aexit__(*error)
        except TimeoutError:
            raise EmbeddingFailed from None


async def _awaited(ask: Callable[[], Awaitable[Any]]) -> Any:
    return await ask()


def _is_blocking(embeddings: Embeddings) -> bool:
    """Whether the model has no async methods of its own."""
    if isinstance(embeddings, EmbeddingsLambda):
        return getattr(embeddings, "afunc", None) is None
    return type(embeddings).aembed_documents is Embeddings.aembed_documents


def _calls_of(
    embeddings: Embeddings, *, blocking: bool
) -> tuple[Callable[[list[str]], Awaitable[Any]], Callable[[str], Awaitable[Any]]]:
    """How the model is asked for vectors of documents, and of a query.

    LangChain would call a model without async methods in a thread too, but one that counts for the
    run that happens to ask.
    """
    if not blocking:
        return embeddings.aembed_documents, embeddings.aembed_query
    return (
        lambda texts: in_a_thread(partial(embeddings.embed_documents, texts)),
        lambda text: in_a_thread(partial(embeddings.embed_query, text)),
    )


def _fault_of(error: BaseException) -> ModelFault:
    status = getattr(error, "status_code", None)
    what = type(error).__name__
    if status in _TEXT_REFUSED:
        return ModelFault("refused", what, repeatable=False)
    return ModelFault("error", what, repeatable=status not in _SETUP_REFUSED)


def _refusal(fault: ModelFault) -> EmbeddingFailed | EmbeddingRefused:
    error = EmbeddingRefused() if fault.reason == "refused" else EmbeddingFailed()
    error.__cause__ = fault
    return error
