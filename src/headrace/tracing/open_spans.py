"""Spans that stand for the nearest open span: the current span of code that a graph runs.

OpenTelemetry keeps the current span in a context variable. LangChain tells that a node or a model
call has ended in another task, where that variable cannot be set back. So the variable holds an
:class:`OpenSpan`, which passes on to its parent once it has ended. User code that goes on in the
node after a model call then works below the node again.
"""

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanContext, Status, StatusCode

from headrace.error_text import clipped, error_name
from headrace.observability.masking import masked_message, masked_text

#: Longer texts are cut: a span is no log.
MAX_TEXT_BYTES = 1000
#: Longer names of spans, models, tools and their calls.
_MAX_NAME_BYTES = 200


def span_text(text: str) -> str:
    """A text that others have written, for a span: without secrets, bounded, in valid UTF-8."""
    return masked_text(text, max_bytes=MAX_TEXT_BYTES)


def span_name(text: str) -> str:
    """As :func:`span_text`, for a name."""
    return masked_text(text, max_bytes=_MAX_NAME_BYTES)


class OpenSpan(Span):
    """A span of headrace, or the nearest span above it that has not ended.

    :param parent: None for the span of an attempt.
    """

    def __init__(self, span: Span, parent: "OpenSpan | None" = None) -> None:
        self.span = span
        self.parent = parent
        self._ended = False

    @property
    def open(self) -> Span:
        """The span that has not ended."""
        found = self
        while found._ended and found.parent is not None:
            found = found.parent
        return found.span

    def enter(self) -> None:
        """Make it the current span of the calling task, or thread, until that ends."""
        attach(self.context())

    def context(self) -> Context:
        return trace.set_span_in_context(self)

    def finish(self, end_time: int | None = None) -> None:
        """End the span; from now on this one stands for its parent."""
        self._ended = True
        self.span.end(end_time)

    def end(self, end_time: int | None = None) -> None:
        """Does nothing: user code cannot end a span of headrace."""

    def get_span_context(self) -> SpanContext:
        return self.open.get_span_context()

    def is_recording(self) -> bool:
        return self.open.is_recording()

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.open.set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.open.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self.open.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        self.open.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """Does nothing: the names of headrace's spans are documented."""

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if isinstance(status, Status):
            description, status = status.description, status.status_code
        self.open.set_status(status, None if description is None else span_text(description))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """As an event without the traceback, which may quote what users wrote."""
        told = {
            "exception.type": error_name(exception),
            "exception.message": masked_message(exception, max_bytes=MAX_TEXT_BYTES),
            "exception.escaped": str(escaped),
        }
        self.open.add_event("exception", {**told, **(attributes or {})}, timestamp)


def fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed. No traceback: it may quote what users wrote."""
    name = error_name(error)
    message = masked_message(error, max_bytes=MAX_TEXT_BYTES)
    span.set_attribute("error.type", name)
    span.set_status(StatusCode.ERROR, clipped(f"{name}: {message}", MAX_TEXT_BYTES))
