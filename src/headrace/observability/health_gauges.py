"""Gauges of what the process that answers knows about its pod: the verdict of ``/readyz``, the
database, the schema and the versions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class PodFacts:
    """The health and the versions of a pod at one moment."""

    #: Whether requests may be sent to the pod, as ``/readyz`` says.
    ready: bool
    database_reachable: bool
    schema_fit: bool
    #: Version, Python, LangGraph, and the revision of the schema, by label.
    build: dict[str, str]


class HealthCollector(Collector):
    """Shows the facts that it was given last; nothing before."""

    def __init__(self) -> None:
        self.facts: PodFacts | None = None

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: there are no facts yet."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        facts = self.facts
        if facts is None:
            return
        yield GaugeMetricFamily(
            "headrace_ready",
            "1 if the pod takes requests, as /readyz says; else 0.",
            value=facts.ready,
        )
        yield GaugeMetricFamily(
            "headrace_database_reachable",
            "1 if the database answers the process that was asked; else 0.",
            value=facts.database_reachable,
        )
        yield GaugeMetricFamily(
            "headrace_schema_fit",
            "1 if this release can serve on the schema of the database; else 0.",
            value=facts.schema_fit,
        )
        build = GaugeMetricFamily(
            "headrace_build_info",
            "1, with the versions of headrace, Python, LangGraph and the schema as labels.",
            labels=tuple(facts.build),
        )
        build.add_metric(tuple(facts.build.values()), 1)
        yield build
