"""Where all spans of headrace begin, also those whose ids are given."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span


class PresetIds(RandomIdGenerator):
    """Random ids, except for a span whose ids are given."""

    def __init__(self) -> None:
        self._preset = threading.local()

    @contextmanager
    def preset(self, *, trace_id: int | None = None, span_id: int | None = None) -> Iterator[None]:
        """Within the block, this thread starts one span, which has these ids."""
        self._preset.ids = (trace_id, span_id)
        try:
            yield
        finally:
            self._preset.ids = (None, None)

    def generate_trace_id(self) -> int:
        return self._given()[0] or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self._given()[1] or super().generate_span_id()

    def _given(self) -> tuple[int | None, int | None]:
        return getattr(self._preset, "ids", (None, None))


class SpanSource:
    """Starts spans, also with ids that are given."""

    def __init__(self, provider: TracerProvider, ids: PresetIds) -> None:
        self.spans = provider.get_tracer("headrace", version("headrace"))
        self._ids = ids

    def new_trace_id(self) -> int:
        return self._ids.generate_trace_id()

    def start(
        self,
        name: str,
        context: Context | None,
        *,
        trace_id: int | None = None,
        span_id: int | None = None,
        **options: Any,
    ) -> Span:
        """
        :param context: the context of the parent; None: the span begins a trace.
        """
        with self._ids.preset(trace_id=trace_id, span_id=span_id):
            return self.spans.start_span(name, Context() if context is None else context, **options)
