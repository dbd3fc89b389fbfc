"""Counts the model calls of an attempt: a callback handler that LangChain finds by itself.

The handler is in a context variable, not in the run's config. LangChain asks a registered variable
wherever it makes a callback manager: for the graph, and for each call of a model. Nodes inherit
their managers, so a node costs nothing. Callbacks of users are not touched. The reasons are in
docs/adr/0019-a-hook-counts-model-calls.md.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from time import perf_counter
from types import TracebackType
from typing import Any
from uuid import UUID

import structlog
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.tracers.context import register_configure_hook

from headrace.checkpoints.tally import Tokens, UsageTally
from headrace.errors import TokenBudgetExceeded
from headrace.observability.usage_metrics import UsageMetrics
from headrace.usage.budgets import Limit, exceeded_limit, spent_limit
from headrace.usage.calls import asked_model, from_cache, reported_tokens

_log = structlog.stdlib.get_logger("headrace.usage")

#: At most so many models that report no usage are logged in a process.
_MOST_SILENT = 20

_current: ContextVar["ModelCalls | None"] = ContextVar("headrace_model_calls", default=None)


@cache
def let_langchain_find_handlers() -> None:
    """Register the variable, once in a process."""
    # Not inheritable: LangChain then gives the handler to models, and not to each node.
    register_configure_hook(_current, inheritable=False)
    logging.getLogger("langchain_core.callbacks.manager").addFilter(_is_no_refusal_of_ours)


def _is_no_refusal_of_ours(record: logging.LogRecord) -> bool:
    """LangChain warns of each error that a handler raises; ``budget_exceeded`` tells ours better.

    The arguments of its line are the handler's class, the event, and the error's ``repr``.
    """
    match record.args:
        case (ModelCalls.__name__, _, str(error)):
            return not error.startswith(f"{TokenBudgetExceeded.__name__}(")
        case _:
            return True


class SilentModels:
    """The models of a process that have answered without saying what they used."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def found(self, model: str) -> None:
        """Log the model, once in a process."""
        if model not in self._known and len(self._known) < _MOST_SILENT:
            self._known.add(model)
            _log.warning("model_without_usage", model=model)


class _Call:
    """A model call under way."""

    __slots__ = ("model", "started")

    def __init__(self, model: str) -> None:
        self.model = model
        self.started = perf_counter()


class ModelCalls(BaseCallbackHandler):
    """The model calls of one attempt. LangChain may use it from any thread."""

    #: LangChain calls it in place, not in a thread, and lets its errors through to the node.
    run_inline = True
    raise_error = True

    def __init__(
        self,
        tally: UsageTally,
        metrics: UsageMetrics,
        silent: SilentModels,
        limits: Sequence[Limit] = (),
    ) -> None:
        self._tally = tally
        self._silent = silent
        self._metrics = metrics
        self._limits = limits
        self._open: dict[UUID, _Call] = {}
        #: The budget that the run has met, and the error with which the run ends then.
        self._met: tuple[Limit, TokenBudgetExceeded] | None = None

    @property
    def ignore_chain(self) -> bool:
        return True

    def counted(self) -> "_CountedBlock":
        """Within the block, and in tasks and threads that it starts, model calls are counted.

        At its end it raises TokenBudgetExceeded if a budget was exceeded, whatever the graph made
        of that.
        """
        let_langchain_find_handlers()
        return _CountedBlock(self)

    def refused(self) -> TokenBudgetExceeded | None:
        """The error with which the run must end, because it has met a budget."""
        return None if self._met is None else self._met[1]

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """:raises TokenBudgetExceeded: no token is left for this call."""
        self._begin(serialized, run_id, metadata, options)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """:raises TokenBudgetExceeded: no token is left for this call."""
        self._begin(serialized, run_id, metadata, options)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """:raises TokenBudgetExceeded: this call has used more than was left."""
        call = self._open.pop(run_id, None)
        if call is None or from_cache(response):
            return
        self._count(call, "success", response)
        self._refuse(exceeded_limit(self._limits, self._tally.spent), call.model)

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        response: LLMResult | None = None,
        **_: Any,
    ) -> None:
        call = self._open.pop(run_id, None)
        if call is None:
            return
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        self._count(call, "cancelled" if left else "error", response)

    def _begin(
        self,
        serialized: dict[str, Any] | None,
        run_id: UUID,
        metadata: dict[str, Any] | None,
        options: dict[str, Any],
    ) -> None:
        model = asked_model(serialized, metadata, options.get("invocation_params"))
        self._refuse(spent_limit(self._limits, self._tally.spent), model)
        self._open[run_id] = _Call(model)

    def _count(self, call: _Call, outcome: str, response: LLMResult | None) -> None:
        reported = reported_tokens(response)
        if reported is None and outcome == "success":
            self._silent.found(call.model)
        tokens = reported or Tokens()
        self._tally.add(call.model, tokens)
        self._metrics.observe_call(call.model, outcome, perf_counter() - call.started)
        for kind in ("input", "output", "cached", "reasoning"):
            if count := getattr(tokens, kind):
                self._metrics.count_tokens(call.model, kind, count)

    def _refuse(self, limit: Limit | None, model: str) -> None:
        """Raise if there is a limit that is met; count and log that once in an attempt."""
        if limit is None:
            return
        error = limit.error(self._tally.spent)
        if self._met is None:
            self._met = (limit, error)
            self._metrics.count_exceeded(limit.budget)
            _log.warning(
                "budget_exceeded",
                budget=limit.budget,
                allowed=limit.most,
                spent=limit.before + self._tally.spent,
                model=model,
            )
        raise error


class _CountedBlock:
    """A context manager; as a generator it would take three times as long, in every run."""

    __slots__ = ("_before", "_calls")

    def __init__(self, calls: ModelCalls) -> None:
        self._calls = calls

    def __enter__(self) -> None:
        self._before = _current.set(self._calls)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.reset(self._before)
        refused = self._calls.refused()
        if refused is None or isinstance(error, TokenBudgetExceeded):
            return
        if error is None or isinstance(error, Exception):
            raise refused from error
