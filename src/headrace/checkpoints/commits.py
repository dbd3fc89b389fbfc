"""How long a write takes until it is committed: from the saver's call to the commit of its row.

Within a run a call returns when its write is queued. So the time of the call says nothing about the
database. Only writes that were committed are observed: a failed write is in
``headrace_flushes_total`` as ``rejected``, and fails its run.
"""

from time import monotonic, perf_counter

import structlog

from headrace.checkpoints.run_writes import RunWrites
from headrace.observability.checkpoint_metrics import CheckpointMetrics

_log = structlog.stdlib.get_logger("headrace.checkpoints")

#: At most so many slow checkpoints are logged in a second.
_LINES_PER_SECOND = 5


class Commits:
    """Measures each commit, and logs slow ones; one per process.

    :param slow_seconds: a write that takes longer is logged and counted; 0: none is.
    """

    def __init__(self, metrics: CheckpointMetrics, *, slow_seconds: float) -> None:
        self._metrics = metrics
        self._slow_seconds = slow_seconds or float("inf")
        #: The second of the last line, and how many lines it has.
        self._second = 0
        self._lines = 0
        self._passed_over = 0

    def note(
        self,
        operation: str,
        called_at: float,
        *,
        thread_id: str,
        run: RunWrites | None,
        size_bytes: int,
    ) -> None:
        """Note that a write was committed now.

        :param operation: ``put`` or ``put_writes``.
        :param called_at: when the saver was called, by ``perf_counter``.
        :param size_bytes: the bytes of the columns that may be large.
        """
        seconds = perf_counter() - called_at
        self._metrics.observe_commit(operation, seconds, size_bytes)
        if seconds >= self._slow_seconds:
            self._tell(operation, seconds, thread_id, run, size_bytes)

    def _tell(
        self, operation: str, seconds: float, thread_id: str, run: RunWrites | None, size_bytes: int
    ) -> None:
        self._metrics.count_slow_checkpoint()
        second = int(monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        if self._lines >= _LINES_PER_SECOND:
            self._passed_over += 1
            return
        self._lines += 1
        passed_over, self._passed_over = self._passed_over, 0
        token = None if run is None else run.token
        _log.warning(
            "checkpoint_slow",
            thread_id=thread_id,
            run_id=None if token is None else str(token.run_id),
            operation=operation,
            seconds=round(seconds, 3),
            bytes=size_bytes,
            not_logged=passed_over,
        )
