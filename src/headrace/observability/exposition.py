"""Writes what ``/metrics`` answers, in a thread of its own: once for all requests within a second.

Reading the files of all processes takes time that grows with series and processes. The event loop
has no time for that, and anybody may request metrics without a key, at any rate.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from headrace.observability.report import report

#: Writing the metrics takes at most this part of a thread's time.
_LARGEST_SHARE = 0.1
#: The longest pause between two writings, in seconds.
_MOST_SECONDS = 10.0


def written(families: Sequence[Metric]) -> bytes:
    """The metrics as Prometheus text."""
    registry = CollectorRegistry()
    registry.register(_Found(families))
    return generate_latest(registry)


@dataclass(frozen=True, slots=True)
class Written:
    """All figures at one moment."""

    text: bytes
    #: Some of the figures, in the JSON form of LangGraph's server.
    report: dict[str, Any]


class Exposition:
    """Writes the metrics that ``collect`` finds. Thread-safe."""

    def __init__(
        self, collect: Callable[[], Iterable[Metric]], *, cache_seconds: float = 1.0
    ) -> None:
        self._collect = collect
        self._cache_seconds = cache_seconds
        self._lock = Lock()
        # Not the loop's default threads: nodes of graphs may use all of them.
        self._executor: ThreadPoolExecutor | None = None
        self._latest: Future[Written] | None = None
        self._fresh_until = 0.0

    @property
    def is_due(self) -> bool:
        """Whether :meth:`latest` would write the metrics anew."""
        latest = self._latest
        return latest is None or (latest.done() and monotonic() >= self._fresh_until)

    def latest(self) -> Future[Written]:
        """The metrics that were written last, or are being written now.

        They are at most ``cache_seconds`` old, or 10 s if writing them takes long.
        """
        with self._lock:
            latest = self._latest
            if latest is None or self.is_due:
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(1, thread_name_prefix="headrace-metrics")
                latest = self._latest = self._executor.submit(self._write)
            return latest

    def close(self) -> None:
        """Let the thread end; requests that wait still get an answer."""
        with self._lock:
            executor, self._executor, self._latest = self._executor, None, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _write(self) -> Written:
        began = monotonic()
        try:
            families = list(self._collect())
            return Written(written(families), report(families))
        finally:
            took = monotonic() - began
            pause = min(took / _LARGEST_SHARE, _MOST_SECONDS) if self._cache_seconds else 0.0
            self._fresh_until = monotonic() + max(self._cache_seconds, pause)


class _Found(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families

    def describe(self) -> Iterable[Metric]:
        return []
