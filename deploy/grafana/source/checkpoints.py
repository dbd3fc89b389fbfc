"""Checkpoints: how long until a step is safe in the database, and where that time goes."""

from deploy.grafana.source.boards import Board, Row
from deploy.grafana.source.panels import (
    A_SECOND,
    BYTES,
    BYTES_A_SECOND,
    NUMBER,
    SECONDS,
    events,
    figures,
    graph,
)
from deploy.grafana.source.queries import (
    Line,
    counted,
    each,
    greatest,
    mean,
    or_zero,
    over_processes,
    percentiles,
    quantile,
    quantile_by,
    rate,
    rate_by,
    total,
)

_COMMIT = "headrace_checkpoint_commit_seconds"
_FLUSH = "headrace_flush_seconds"

_NOW = Row(
    "Now",
    (
        figures(
            "Until a checkpoint is committed",
            "Seconds from the graph's call until its checkpoint is in the database. This is the"
            " figure that this server is built for: above 0.1 s look at the next row for where the"
            " time goes.",
            SECONDS,
            Line(quantile(0.5, _COMMIT, 'operation="put"'), "p50"),
            Line(quantile(0.99, _COMMIT, 'operation="put"'), "p99"),
            span=6,
            worry=0.1,
            trouble=1,
            runbook="checkpoints-slow",
        ),
        figures(
            "Queued writes",
            "Writes that are queued or on their way, and writes that wait because the queue is"
            " full. The second above 0: runs wait for the database.",
            NUMBER,
            Line(total("headrace_writes_queued"), "queued"),
            Line(total("headrace_writes_waiting"), "wait for the queue"),
            span=6,
            worry=1000,
            trouble=5000,
            runbook="checkpoints-slow",
        ),
        figures(
            "Checkpoints",
            "Checkpoints committed a second. 0 while runs are executed: nothing reaches the"
            " database.",
            A_SECOND,
            Line(or_zero(rate(f"{_COMMIT}_count", 'operation="put"')), "committed"),
            span=6,
        ),
        figures(
            "Size of a checkpoint",
            "Bytes of a checkpoint on average. Large states make every step slow; let graphs keep"
            " less in them.",
            BYTES,
            Line(
                each(
                    rate("headrace_checkpoint_bytes_total", 'operation="put"'),
                    rate(f"{_COMMIT}_count", 'operation="put"'),
                ),
                "mean",
            ),
            span=6,
            worry=1_000_000,
            trouble=10_000_000,
        ),
    ),
)

_COMMITS = Row(
    "From the call to the commit",
    (
        graph(
            "Checkpoints (put)",
            "Seconds until a checkpoint is committed. p50 rises too: the database or the way to"
            " it. Only p99: locks, large states, or pauses of the disk.",
            SECONDS,
            *percentiles(_COMMIT, 'operation="put"'),
            limit=1,
            runbook="checkpoints-slow",
        ),
        graph(
            "Writes of tasks (put_writes)",
            "Seconds until what a node has returned is committed. It goes in the same flushes as"
            " checkpoints, so both rise together.",
            SECONDS,
            *percentiles(_COMMIT, 'operation="put_writes"'),
            limit=1,
            runbook="checkpoints-slow",
        ),
        graph(
            "Bytes stored",
            "Bytes a second that checkpoints and writes bring to the database. It grows faster"
            " than the number: states grow.",
            BYTES_A_SECOND,
            rate_by("headrace_checkpoint_bytes_total", "operation"),
            stacked=True,
        ),
    ),
)

_FLUSHES = Row(
    "Where the time goes: flushes of the group-commit writer",
    (
        graph(
            "Parts of a flush, p95",
            "queue: the wait until a flush began. pool: the wait for a connection. database: the"
            " transaction itself. The part that rises is the cause.",
            SECONDS,
            quantile_by(0.95, _FLUSH, "part"),
            span=6,
            runbook="checkpoints-slow",
        ),
        graph(
            "Parts of a flush, p99",
            "As on the left, for the slowest in a hundred. database high and all else low: a lock"
            " or the disk.",
            SECONDS,
            quantile_by(0.99, _FLUSH, "part"),
            span=6,
            runbook="checkpoints-slow",
        ),
        graph(
            "Writes in one flush",
            "How many writes a flush commits together. It grows with the load, and that is what"
            " keeps the database calm; at 256 it can grow no further.",
            NUMBER,
            Line(mean("headrace_flush_operations"), "mean"),
            Line(quantile(0.95, "headrace_flush_operations"), "p95"),
            span=6,
        ),
        graph(
            "Flushes",
            "Flushes a second by outcome. retried grows: the database or the way to it. rejected:"
            " the log event write_failed names the thread.",
            A_SECOND,
            rate_by("headrace_flushes_total", "outcome"),
            span=6,
            stacked=True,
        ),
    ),
)

_QUEUE = Row(
    "Queue of the writer: sums, and the processes that have least and most",
    (
        graph(
            "Writes queued",
            "Writes queued or on their way. It stays high: the database does not keep up. One"
            " process alone: its event loop or its connections.",
            NUMBER,
            *over_processes("headrace_writes_queued"),
            runbook="checkpoints-slow",
        ),
        graph(
            "Bytes queued",
            "Bytes queued or on their way. High with few writes: large states.",
            BYTES,
            Line(total("headrace_writes_queued_bytes"), "all processes"),
            Line(greatest("headrace_writes_queued_max_bytes"), "process with most"),
        ),
        graph(
            "Writes that wait for the queue",
            "Above 0: the bound of the queue is reached, and runs wait for the database.",
            NUMBER,
            *over_processes("headrace_writes_waiting"),
            runbook="checkpoints-slow",
        ),
    ),
)

_READS = Row(
    "Reads and the store",
    (
        graph(
            "Operations of checkpoints, p95",
            "Seconds of each operation as the graph sees it; for put this is only the time until"
            " it is queued. Slow reads: long histories or large states.",
            SECONDS,
            quantile_by(0.95, "headrace_checkpoint_seconds", "operation"),
            span=6,
        ),
        graph(
            "Operations a second",
            "How often each operation is called. Reads far above puts: clients poll states.",
            A_SECOND,
            rate_by("headrace_checkpoint_seconds_count", "operation"),
            span=6,
        ),
        graph(
            "Store, p95",
            "Seconds of operations of the store, the wait for a connection included.",
            SECONDS,
            quantile_by(0.95, "headrace_store_seconds", "operation"),
            span=6,
        ),
        events(
            "Slow, or not readable",
            "Checkpoints that were slower than the limit (the log event checkpoint_slow has thread"
            " and size), and values of a type that langgraph.json does not list.",
            counted("headrace_slow_checkpoints_total", "slow checkpoints"),
            counted("headrace_checkpoint_types_blocked_total", "types blocked"),
            span=6,
            runbook="checkpoints-slow",
        ),
    ),
)

CHECKPOINTS = Board(
    "checkpoints",
    "Checkpoints",
    "How long until a step is safe in the database, and where does that time go?",
    (_NOW, _COMMITS, _FLUSHES, _QUEUE, _READS),
)
