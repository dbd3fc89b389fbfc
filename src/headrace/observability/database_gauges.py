"""The figures of the database as metrics. All pods share it: take the maximum over pods."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from headrace.observability.figures import DatabaseFigures, Figures, TableFigures

#: Name, help text, and how to read the figure.
_TABLE_GAUGES: tuple[tuple[str, str, Callable[[TableFigures], float]], ...] = (
    ("table_rows", "Rows that can be seen, as Postgres estimates.", lambda table: table.rows),
    ("table_dead_rows", "Rows that vacuum has not removed yet.", lambda table: table.dead_rows),
    ("table_bytes", "Size with its TOAST table and its indexes.", lambda table: table.bytes),
    (
        "table_since_vacuum_seconds",
        "Seconds since the last vacuum, manual or automatic.",
        lambda table: table.since_vacuum_seconds,
    ),
)
_TABLE_COUNTERS: tuple[tuple[str, str, Callable[[TableFigures], float]], ...] = (
    ("table_sequential_scans", "Sequential scans.", lambda table: table.sequential_scans),
    ("table_sequential_rows", "Rows read by them.", lambda table: table.sequential_rows),
    ("table_updates", "Rows updated.", lambda table: table.updates),
    (
        "table_hot_updates",
        "Rows updated without a change of an index.",
        lambda table: table.hot_updates,
    ),
)


def database_families(figures: Sequence[Figures]) -> Iterator[Metric]:
    """The metrics of the database; none if no process of the pod has measured it."""
    seen = [one.database for one in figures if one.database is not None]
    if seen:
        yield from _tables(seen[0])
        yield from _others(seen[0])


def _tables(found: DatabaseFigures) -> Iterator[Metric]:
    for name, text, of_table in _TABLE_GAUGES:
        gauge = GaugeMetricFamily(f"headrace_{name}", f"{text} By table.", labels=("table",))
        for table in found.tables:
            gauge.add_metric((table.name,), of_table(table))
        yield gauge
    for name, text, of_table in _TABLE_COUNTERS:
        counter = CounterMetricFamily(f"headrace_{name}", f"{text} By table.", labels=("table",))
        for table in found.tables:
            counter.add_metric((table.name,), of_table(table))
        yield counter


def _others(found: DatabaseFigures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "headrace_oldest_transaction_seconds",
        "Age of the oldest transaction or snapshot that holds vacuum back; 0: there is none.",
        value=found.oldest_transaction_seconds,
    )
    if found.largest_thread_bytes is not None:
        yield GaugeMetricFamily(
            "headrace_largest_thread_bytes",
            "Stored bytes of the largest thread among those of the latest runs.",
            value=found.largest_thread_bytes,
        )
    expires = GaugeMetricFamily(
        "headrace_credential_expires_seconds",
        "Seconds until a credential for the database expires.",
        labels=("credential",),
    )
    for credential, seconds in sorted(found.credentials.items()):
        expires.add_metric((credential,), seconds)
    yield expires
