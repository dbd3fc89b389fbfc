"""Spans of nodes, model calls and tool calls, from LangChain's callbacks.

Parents follow the ids of callbacks, so that parallel nodes do not mix. Model and tool spans follow
OpenTelemetry's conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/). Messages of users and models are
not recorded.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from headrace.tracing.open_spans import OpenSpan, fail, span_name

#: LangGraph's tag of a node's own runnable: ``graph:step:3``.
_NODE_TAG = "graph:step:"

#: What LangChain says of a model, and its name in the conventions.
_MODEL_SETTINGS = {
    "ls_provider": "gen_ai.provider.name",
    "ls_temperature": "gen_ai.request.temperature",
    "ls_max_tokens": "gen_ai.request.max_tokens",
}


class GraphCallbacks(BaseCallbackHandler):
    """The handler of one attempt; its calls come from the event loop and from threads."""

    #: LangChain calls it in the task of the node, where it can set the current span.
    run_inline = True

    def __init__(
        self, tracer: trace.Tracer, attempt: OpenSpan, attributes: Mapping[str, str]
    ) -> None:
        self._tracer = tracer
        self._attempt = attempt
        self._attributes = attributes
        #: By the id of LangChain's run.
        self._spans: dict[UUID, OpenSpan] = {}
        #: Runs without a span of their own (the graph itself, routers): the span above them.
        self._passed: dict[UUID, OpenSpan] = {}

    def close(self) -> None:
        """End the spans of what was cut off."""
        for run_id in list(self._spans):
            self._end(run_id, event="cut off")

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: dict[str, Any],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        told = metadata or {}
        step = told.get("langgraph_step")
        # A caller may send tags too.
        if not _is_number(step) or f"{_NODE_TAG}{step}" not in (tags or ()):
            self._passed[run_id] = self._above(parent_run_id)
            return
        name = span_name(str(told.get("langgraph_node") or kwargs.get("name")))
        attributes = {"headrace.node": name, "headrace.step": step}
        self._begin(f"node {name}", run_id, parent_run_id, attributes)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._fail(run_id, error)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[Any]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._begin_model("chat", run_id, parent_run_id, metadata or {}, kwargs)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._begin_model("text_completion", run_id, parent_run_id, metadata or {}, kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id, _answer_attributes(response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._fail(run_id, error)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        name = span_name(str(kwargs.get("name") or (serialized or {}).get("name") or "tool"))
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
        if isinstance(call_id := kwargs.get("tool_call_id"), str):
            attributes["gen_ai.tool.call.id"] = span_name(call_id)
        self._begin(f"execute_tool {name}", run_id, parent_run_id, attributes)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._end(run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._fail(run_id, error)

    def _begin_model(
        self,
        operation: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        invocation = given.get("invocation_params") or {}
        named = metadata.get("ls_model_name") or invocation.get("model") or "unknown"
        model = span_name(str(named))
        # The metadata of a model stands beside that of the caller, which may have the same keys.
        attributes: dict[str, Any] = {
            name: span_name(told) if isinstance(told, str) else told
            for key, name in _MODEL_SETTINGS.items()
            if (told := metadata.get(key)) and (isinstance(told, str) or _is_number(told))
        }
        attributes |= {"gen_ai.operation.name": operation, "gen_ai.request.model": model}
        self._begin(f"{operation} {model}", run_id, parent_run_id, attributes, SpanKind.CLIENT)

    def _begin(
        self,
        name: str,
        run_id: UUID,
        parent_run_id: UUID | None,
        attributes: Mapping[str, Any],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        above = self._above(parent_run_id)
        span = self._tracer.start_span(
            name,
            trace.set_span_in_context(_user_span(above) or above),
            kind,
            {**self._attributes, **attributes},
        )
        opened = self._spans[run_id] = OpenSpan(span, above)
        opened.enter()

    def _above(self, parent_run_id: UUID | None) -> OpenSpan:
        if parent_run_id is None:
            return self._attempt
        return self._spans.get(parent_run_id) or self._passed.get(parent_run_id) or self._attempt

    def _end(
        self,
        run_id: UUID,
        attributes: Mapping[str, Any] | None = None,
        *,
        event: str | None = None,
        error: BaseException | None = None,
    ) -> None:
        found = self._spans.pop(run_id, None)
        if found is None:
            self._passed.pop(run_id, None)
            return
        if attributes:
            found.span.set_attributes(attributes)
        if event is not None:
            found.span.add_event(event)
        if error is not None:
            fail(found.span, error)
        found.finish()

    def _fail(self, run_id: UUID, error: BaseException) -> None:
        """An interrupt is an answer that the graph waits for, and a cancelled node did nothing
        wrong: both are events, not errors.
        """
        if isinstance(error, GraphInterrupt):
            self._end(run_id, event="interrupt")
        elif isinstance(error, GraphBubbleUp):
            self._end(run_id)
        elif isinstance(error, asyncio.CancelledError):
            self._end(run_id, event="cancelled")
        else:
            self._end(run_id, error=error)


def _user_span(above: OpenSpan) -> Span | None:
    """A span that the user's code has made current below ``above``, if there is one."""
    current = trace.get_current_span()
    if isinstance(current, OpenSpan) or not current.is_recording():
        return None
    own, wanted = current.get_span_context(), above.get_span_context()
    return current if own.trace_id == wanted.trace_id else None


def _answer_attributes(response: LLMResult) -> dict[str, Any]:
    """Tokens, model and reasons to finish, where the model tells them."""
    found: dict[str, Any] = {}
    first = next((one for batch in response.generations for one in batch), None)
    message = getattr(first, "message", None)
    usage = getattr(message, "usage_metadata", None) or _older_usage(response.llm_output)
    for key in ("input_tokens", "output_tokens"):
        if _is_number(tokens := usage.get(key)):
            found[f"gen_ai.usage.{key}"] = tokens
    told: Mapping[str, Any] = getattr(message, "response_metadata", None) or {}
    if isinstance(model := told.get("model_name") or told.get("model"), str):
        found["gen_ai.response.model"] = span_name(model)
    if isinstance(reason := told.get("finish_reason") or told.get("stop_reason"), str):
        found["gen_ai.response.finish_reasons"] = [span_name(reason)]
    return found


def _is_number(value: Any) -> bool:
    """Whether an attribute can hold it: OTLP has 64 bits for an integer."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _older_usage(output: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Tokens as models without ``usage_metadata`` tell them."""
    usage = (output or {}).get("token_usage") or {}
    return {
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
    }
