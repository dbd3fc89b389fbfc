"""The Prometheus metrics of headrace. The lifespan builds them.

Each subject has a module and declares its counters and histograms there. Live gauges come from the
status slots (``gauges.py``).
"""

from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector

from headrace.observability.auth_metrics import AuthMetrics
from headrace.observability.checkpoint_metrics import CheckpointMetrics
from headrace.observability.cron_metrics import CronMetrics
from headrace.observability.database_metrics import DatabaseMetrics
from headrace.observability.declarations import Declarations
from headrace.observability.directory_gauges import DirectoryCollector
from headrace.observability.exposition import Exposition, written
from headrace.observability.gauges import SlotCollector
from headrace.observability.health_gauges import HealthCollector, PodFacts
from headrace.observability.http_metrics import HttpMetrics
from headrace.observability.index_metrics import IndexMetrics
from headrace.observability.metric_files import reading
from headrace.observability.process_metrics import ProcessMetrics
from headrace.observability.retention_metrics import RetentionMetrics
from headrace.observability.run_metrics import AttemptMetrics, RunMetrics
from headrace.observability.slots import StatusBoard
from headrace.observability.trace_metrics import TraceMetrics
from headrace.observability.usage_metrics import UsageMetrics
from headrace.observability.webhook_metrics import WebhookMetrics

_log = structlog.stdlib.get_logger("headrace.metrics")

#: Media type of what ``Metrics.render`` returns.
METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one process; ``render`` answers for all processes of the pod."""

    def __init__(
        self,
        board: StatusBoard,
        *,
        multiprocess_dir: Path | None = None,
        cache_seconds: float = 1.0,
    ) -> None:
        #: What ``/metrics`` answers.
        self.exposition = Exposition(self.families, cache_seconds=cache_seconds)
        self._health = HealthCollector()
        self._live = (SlotCollector(board), self._health, DirectoryCollector(multiprocess_dir))
        self._directory = _usable(multiprocess_dir)
        self._registry = CollectorRegistry()
        declarations = Declarations(self._registry)
        self.auth = AuthMetrics(declarations)
        self.http = HttpMetrics(declarations)
        self.runs = RunMetrics(declarations)
        self.attempts = AttemptMetrics(declarations)
        self.checkpoints = CheckpointMetrics(declarations)
        self.crons = CronMetrics(declarations)
        self.database = DatabaseMetrics(declarations)
        self.retention = RetentionMetrics(declarations)
        self.index = IndexMetrics(declarations)
        self.process = ProcessMetrics(declarations)
        self.traces = TraceMetrics(declarations)
        self.usage = UsageMetrics(declarations)
        self.webhooks = WebhookMetrics(declarations)
        if self._directory is None:
            self._register_live(self._registry)

    def note_facts(self, facts: PodFacts) -> None:
        """Show these facts from the next writing on."""
        self._health.facts = facts

    def render(self) -> bytes:
        """The present metrics of all processes of the pod as Prometheus text. It blocks: call it
        from a thread.
        """
        return written(self.families())

    def families(self) -> list[Metric]:
        """The metrics of all processes of the pod, before they are written as text."""
        if self._directory is None:
            return list(self._registry.collect())
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        self._register_live(registry)
        with reading(self._directory):
            return list(registry.collect())

    def _register_live(self, registry: CollectorRegistry) -> None:
        """Add what is not counted here, but read at each scrape."""
        for collector in self._live:
            registry.register(collector)


def _usable(directory: Path | None) -> Path | None:
    """The directory; None if prometheus-client was imported before its variable was set."""
    if directory is None or getattr(values.ValueClass, "_multiprocess", False):
        return directory
    _log.warning(
        "metrics_of_one_process_only",
        why="PROMETHEUS_MULTIPROC_DIR was set after prometheus_client was imported",
    )
    return None
