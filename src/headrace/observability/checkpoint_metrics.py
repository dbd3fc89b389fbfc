"""Metrics of checkpoints, of the group-commit flushes that store them, and of the store."""

from headrace.observability.declarations import (
    BATCH_BUCKETS,
    COMMIT_BUCKETS,
    DATABASE_BUCKETS,
    Declarations,
)
from headrace.observability.figures import FlushFigures
from headrace.observability.latency import LatencyWindow


class CheckpointMetrics:
    """Checkpoint and store metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self.latency = LatencyWindow()
        self.commit_latency = LatencyWindow()
        self.flush_latency = LatencyWindow()
        self.store_latency = LatencyWindow()
        self._checkpoint_seconds = declarations.histograms(
            "headrace_checkpoint_seconds",
            "Seconds of calls to the saver. Within a run, a write returns when it is queued.",
            ("operation",),
            DATABASE_BUCKETS,
        )
        commit_seconds = declarations.histograms(
            "headrace_checkpoint_commit_seconds",
            "Seconds from the call to the saver to the commit of what it writes.",
            ("operation",),
            COMMIT_BUCKETS,
        )
        written_bytes = declarations.counters(
            "headrace_checkpoint_bytes_total",
            "Bytes of checkpoints and of writes of tasks that were committed.",
            ("operation",),
        )
        self._commits = {
            operation: (commit_seconds.labels(operation), written_bytes.labels(operation))
            for operation in ("put", "put_writes")
        }
        self._slow = declarations.counter(
            "headrace_slow_checkpoints_total",
            "Writes that took longer than checkpointer.slow_seconds until they were committed.",
        )
        self._flush_seconds = declarations.histograms(
            "headrace_flush_seconds",
            "Seconds of a group-commit flush, by part: wait in the queue, for a connection, for the"
            " database.",
            ("part",),
            DATABASE_BUCKETS,
        )
        self._flush_operations = declarations.histogram(
            "headrace_flush_operations", "Writes that one flush committed.", BATCH_BUCKETS
        )
        self._flushes = declarations.counters(
            "headrace_flushes_total",
            "Flushes by outcome: committed, retried, or rejected because of a row.",
            ("outcome",),
        )
        for outcome in ("committed", "retried", "rejected"):
            # At 0 from the start, so that a rate sees the first one.
            self._flushes.labels(outcome)
        self._store_seconds = declarations.histograms(
            "headrace_store_seconds",
            "Seconds of store operations, the wait for a connection included.",
            ("operation",),
            DATABASE_BUCKETS,
        )
        self._blocked_types = declarations.counter(
            "headrace_checkpoint_types_blocked_total",
            "Values read from checkpoints whose type this server may not make again.",
        )

    def observe_checkpoint(self, operation: str, seconds: float) -> None:
        self.latency.add(seconds)
        self._checkpoint_seconds.labels(operation).observe(seconds)

    def observe_commit(self, operation: str, seconds: float, size_bytes: int) -> None:
        """Count a write that was committed.

        :param operation: ``put`` or ``put_writes``.
        :param seconds: since the saver was called.
        """
        self.commit_latency.add(seconds)
        histogram, written = self._commits[operation]
        histogram.observe(seconds)
        written.inc(size_bytes)

    def count_slow_checkpoint(self) -> None:
        self._slow.inc()

    def observe_flush(self, flush: FlushFigures) -> None:
        """Count one try of a flush."""
        self._flushes.labels(flush.outcome).inc()
        if flush.outcome == "committed":
            self.flush_latency.add(flush.database_seconds)
            self._flush_operations.observe(flush.operations)
            self._flush_seconds.labels("queue").observe(flush.queue_seconds)
            self._flush_seconds.labels("pool").observe(flush.pool_seconds)
            self._flush_seconds.labels("database").observe(flush.database_seconds)

    def observe_store(self, operation: str, seconds: float) -> None:
        self.store_latency.add(seconds)
        self._store_seconds.labels(operation).observe(seconds)

    def count_blocked_type(self) -> None:
        """Count a type in a checkpoint that the serializer did not load."""
        self._blocked_types.inc()
