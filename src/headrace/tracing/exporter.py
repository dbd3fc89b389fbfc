"""Sends spans from a thread of its own, and counts what became of them.

Nothing but that thread waits for a collector. This module reads the queue of OpenTelemetry's
batches, which has no public name: only its length tells that a span finds no room.
"""

import logging
from collections.abc import Sequence

import structlog
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from headrace.error_text import clipped
from headrace.observability.masking import mask_text
from headrace.tracing.opened_tracer import CountSpans

_log = structlog.stdlib.get_logger("headrace.tracing")

#: OpenTelemetry's exporters and batches write a line for each failed try.
_NOISY = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")
_MAX_REASON_BYTES = 300
#: Collectors take at least 4 MiB at once. A larger span is sent alone.
_MAX_PART_BYTES = 4 * 1024 * 1024


class _LastReason(logging.Handler):
    """Keeps the last line of OpenTelemetry's exporters, which says why a batch was not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = clipped(mask_text(record.getMessage()), _MAX_REASON_BYTES)


class CountedExporter(SpanExporter):
    """Counts the spans of each batch, and logs when the collector goes away and comes back."""

    def __init__(self, inner: SpanExporter, count: CountSpans) -> None:
        self._inner = inner
        self._count = count
        self._failing = False
        self._reason = _LastReason()
        for name in _NOISY:
            logger = logging.getLogger(name)
            logger.handlers = [self._reason]
            logger.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        failed = self._failed(spans)
        for outcome, number in (("failed", failed), ("exported", len(spans) - failed)):
            if number:
                self._count(outcome, number)
        if failed and not self._failing:
            _log.warning("spans_not_exported", spans=failed, reason=self._reason.text)
        elif self._failing and not failed:
            _log.info("spans_exported_again")
        self._failing = failed > 0
        return SpanExportResult.FAILURE if failed else SpanExportResult.SUCCESS

    def _failed(self, spans: Sequence[ReadableSpan]) -> int:
        """Send the spans; how many could not be sent.

        One that cannot be encoded takes the whole batch with it: then the others are sent again.
        So does one that is too large, and then parts of the batch are sent.
        """
        try:
            result = self._inner.export(spans)
        except Exception as fault:
            _log.exception("span_exporter_failed")
            self._reason.text = type(fault).__name__
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            return 0
        reason = self._reason.text
        sizes = [(span, size) for span in spans if (size := _encoded_bytes(span)) is not None]
        parts = _parts(sizes)
        if parts == [list(spans)]:
            # The encoder may have told of attributes meanwhile.
            self._reason.text = reason
            return len(spans)
        failed = sum(map(self._failed, parts))
        if not failed:
            self._reason.text = reason
        return len(spans) - len(sizes) + failed

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _encoded_bytes(span: ReadableSpan) -> int | None:
    """The size of the span as it is sent; None: it cannot be encoded.

    The user's code may write half a character (a lone surrogate), no text, or a time before 1970
    into any part of a span, its links, its trace state and the name of its tracer. So the encoder
    itself is asked. It leaves out attributes that it cannot encode.
    """
    try:
        size: int = encode_spans((span,)).ByteSize()  # type: ignore[no-untyped-call]  # protobuf
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
    return size


def _parts(sizes: Sequence[tuple[ReadableSpan, int]]) -> list[list[ReadableSpan]]:
    """The spans in batches that are not too large, in their order."""
    parts: list[list[ReadableSpan]] = []
    size_bytes = 0
    for span, own_bytes in sizes:
        if not parts or size_bytes + own_bytes > _MAX_PART_BYTES:
            parts.append([])
            size_bytes = 0
        parts[-1].append(span)
        size_bytes += own_bytes
    return parts


class CountedBatches(BatchSpanProcessor):
    """OpenTelemetry's batches. A span that finds the queue full is counted, not waited for."""

    def __init__(self, exporter: CountedExporter, count: CountSpans) -> None:
        super().__init__(exporter)
        self._count = count

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled):
            return
        batches = self._batch_processor
        if len(batches._queue) >= batches._max_queue_size:
            # The queue drops its oldest span for this one.
            self._count("dropped", 1)
        super().on_end(span)

    def close(self, seconds: float) -> None:
        """Send what is queued, for so long at most; the rest is dropped. It blocks."""
        self._batch_processor.shutdown(timeout_millis=int(seconds * 1000))
        if left := len(self._batch_processor._queue):
            self._count("dropped", left)
