"""Pool & Postgres: whether connections are short, who holds them, and how tables do."""

from deploy.grafana.source.boards import Board, Row
from deploy.grafana.source.panels import (
    A_SECOND,
    BYTES,
    NUMBER,
    SECONDS,
    SHARE,
    events,
    figures,
    graph,
    verdict,
)
from deploy.grafana.source.queries import (
    Line,
    counted,
    counted_by,
    each,
    extremes,
    greatest,
    least,
    or_zero,
    over_processes,
    percentiles,
    quantile,
    rate,
    series,
    total,
)

_DEAD = greatest("headrace_table_dead_rows", by="table")
_ROWS = greatest("headrace_table_rows", by="table")


def _steepest(counter: str) -> str:
    """The increase in each second. Postgres counts, and every pod reports the whole count."""
    return f"max by (table) (rate({series(counter)}[$__rate_interval]))"


_NOW = Row(
    "Now",
    (
        verdict(
            "Postgres",
            "Whether every pod reaches the database. Lost: look at Postgres and the network, not"
            " at the pool.",
            Line(least("headrace_database_reachable"), "reached"),
            good="yes",
            bad="lost",
            runbook="database-unreachable",
        ),
        figures(
            "Wait for a connection",
            "Seconds that 99 of 100 requests wait at most. Above 0.1 s the pool is what makes"
            " requests slow.",
            SECONDS,
            Line(quantile(0.99, "headrace_pool_checkout_seconds"), "p99"),
            worry=0.1,
            trouble=1,
            runbook="pool-saturated",
        ),
        figures(
            "Waiting",
            "Requests that wait for a connection at this moment, and those of the worst process."
            " One process waits and the others do not: load is uneven, or that process leaks.",
            NUMBER,
            Line(total("headrace_pool_waiting"), "all"),
            Line(greatest("headrace_pool_waiting_max"), "worst process"),
            worry=1,
            trouble=10,
            runbook="pool-saturated",
        ),
        figures(
            "Refused",
            "Requests that got no connection in time, within the time shown: each was answered"
            " with 503.",
            NUMBER,
            Line(
                or_zero(f"sum(increase({series('headrace_pool_timeouts_total')}[$__range]))"),
                "timeouts",
            ),
            worry=1,
            trouble=10,
            runbook="pool-saturated",
        ),
        figures(
            "Leaked",
            "Connections that nobody holds and nobody can have. More than 0 for minutes is a"
            " defect: restart that pod, and report it.",
            NUMBER,
            Line(total("headrace_pool_leaked"), "connections"),
            worry=1,
            trouble=2,
            runbook="connections-leak",
        ),
        figures(
            "Oldest transaction",
            "Age of the oldest open transaction in the database. While it is open, vacuum cannot"
            " remove rows that are newer than it; tables grow.",
            SECONDS,
            Line(greatest("headrace_oldest_transaction_seconds"), "age"),
            worry=300,
            trouble=3600,
            runbook="old-transaction",
        ),
    ),
)

_POOL = Row(
    "Pool: sums, and the processes that have least and most",
    (
        graph(
            "Connections of all processes",
            "In use, being checked, free, and what the pools may open. in use at the limit:"
            " requests wait. Open falls to 0: the database closed them and takes no new ones.",
            NUMBER,
            Line(total("headrace_pool_in_use"), "in use"),
            Line(total("headrace_pool_checking"), "being checked"),
            Line(total("headrace_pool_available"), "free"),
            Line(total("headrace_pool_size"), "open"),
            Line(total("headrace_pool_max_size"), "limit"),
        ),
        graph(
            "In use by one process",
            "Connections in use in the process with most and in that with least, beside what one"
            " process may open. Far apart: load is uneven, and a sum hides the process that is"
            " starved.",
            NUMBER,
            *extremes("headrace_pool_in_use"),
            Line(greatest("headrace_pool_max_size_max"), "limit of a process"),
            runbook="pool-saturated",
        ),
        graph(
            "Free in one process",
            "Connections that are free. least at 0 while most is not: one process is starved.",
            NUMBER,
            *over_processes("headrace_pool_available"),
            runbook="pool-saturated",
        ),
        graph(
            "Waiting for a connection",
            "Requests that wait, of all processes and of the extremes. Above 0 for longer than a"
            " moment: the pool is too small, or transactions are long.",
            NUMBER,
            *over_processes("headrace_pool_waiting"),
            runbook="pool-saturated",
        ),
        graph(
            "Wait for a connection",
            "Seconds that a connection was waited for. If it rises with the load, raise"
            " HEADRACE_DATABASE__POOL_MAX within what Postgres allows; if it rises without load,"
            " something holds connections.",
            SECONDS,
            *percentiles("headrace_pool_checkout_seconds"),
            limit=1,
            runbook="pool-saturated",
        ),
        graph(
            "Leaked, or being checked",
            "Connections that nobody can have, and those that are being checked before use. Many"
            " being checked for long: the way to the database is slow or dead.",
            NUMBER,
            *over_processes("headrace_pool_leaked"),
            Line(total("headrace_pool_checking"), "being checked"),
            runbook="connections-leak",
        ),
        events(
            "Requests without a connection",
            "Requests that waited in vain, within each step of the picture. Every one was answered"
            " with 503.",
            counted("headrace_pool_timeouts_total", "timeouts"),
            runbook="pool-saturated",
        ),
        events(
            "Requests without a place",
            "Requests that a gate refused, by gate and reason (docs/limits.md). share: one caller"
            " asks for too much.",
            counted_by("headrace_gate_refusals_total", "gate, reason"),
            runbook="pool-saturated",
        ),
        graph(
            "Places of gates",
            "Requests that hold a place of a gate, or wait for one. waiting above 0 for long: that"
            " kind of request is what the pool is busy with.",
            NUMBER,
            Line(total("headrace_gate_places", by="gate, state"), "{{gate}}: {{state}}"),
        ),
    ),
)

_COST = Row(
    "What a run costs the database",
    (
        graph(
            "Statements and transactions",
            "A second, of all pods. They rise without more runs: look at reads of states and"
            " searches.",
            A_SECOND,
            Line(rate("headrace_database_statements_total"), "statements"),
            Line(rate("headrace_database_transactions_total"), "transactions"),
        ),
        graph(
            "For each run that ended",
            "Statements and transactions divided by runs. A change after a deploy: the new version"
            " asks more of the database. It is high where there are more reads than runs.",
            NUMBER,
            *(
                Line(
                    each(rate(f"headrace_database_{kind}_total"), rate("headrace_runs_total")),
                    kind,
                )
                for kind in ("statements", "transactions")
            ),
        ),
        graph(
            "Bytes of checkpoints for each run",
            "What runs store, divided by runs that ended. It grows with the threads: states are"
            " stored whole at each step.",
            BYTES,
            Line(
                each(rate("headrace_checkpoint_bytes_total"), rate("headrace_runs_total")),
                "bytes a run",
            ),
        ),
    ),
)

_TABLES = Row(
    "Tables: every pod sees the one database, so these are greatest values, not sums",
    (
        graph(
            "Size",
            "Bytes of each table, with its indexes. The steepest line is what fills the disk;"
            " docs/retention.md says how to keep less.",
            BYTES,
            Line(greatest("headrace_table_bytes", by="table"), "{{table}}"),
            runbook="table-bloated",
        ),
        graph(
            "Dead rows",
            "Rows that are deleted or replaced and still take room, as a share of all; of tables"
            " with 1,000 such rows or more. It should saw up and down: a line that only rises"
            " means that vacuum does not come, or cannot.",
            SHARE,
            Line(f"({_DEAD} / ({_DEAD} + {_ROWS})) and ({_DEAD} >= 1000)", "{{table}}"),
            limit=0.5,
            nothing="no table has 1,000 dead rows",
            runbook="table-bloated",
        ),
        graph(
            "Since the last vacuum",
            "Seconds since each table was vacuumed. Read it together with dead rows: a table that"
            " nobody changes needs none.",
            SECONDS,
            Line(greatest("headrace_table_since_vacuum_seconds", by="table"), "{{table}}"),
            runbook="vacuum-overdue",
        ),
        graph(
            "Rows read by sequential scans",
            "Rows a second that Postgres reads because it scans a table from its beginning. It is"
            " small for small tables; for a large one an index is missing or not used.",
            A_SECOND,
            Line(_steepest("headrace_table_sequential_rows_total"), "{{table}}"),
            runbook="sequential-scans",
        ),
        graph(
            "Sequential scans",
            "Scans a second. Many scans with few rows are cheap; compare with the panel on the"
            " left.",
            A_SECOND,
            Line(_steepest("headrace_table_sequential_scans_total"), "{{table}}"),
            runbook="sequential-scans",
        ),
        graph(
            "Updates within a page",
            "Share of updates that touch no index (HOT), while there are some. It falls: pages are"
            " full of dead rows, and each update costs more.",
            SHARE,
            Line(
                each(
                    _steepest("headrace_table_hot_updates_total"),
                    _steepest("headrace_table_updates_total"),
                ),
                "{{table}}",
            ),
            runbook="table-bloated",
        ),
        graph(
            "Rows",
            "Rows of each table, as Postgres estimates them. checkpoints and runs grow with use,"
            " and fall with retention.",
            NUMBER,
            Line(greatest("headrace_table_rows", by="table"), "{{table}}"),
            span=6,
        ),
        graph(
            "Largest thread",
            "Bytes that the thread with most takes. It grows without end: its graph keeps"
            " everything in the state.",
            BYTES,
            Line(greatest("headrace_largest_thread_bytes"), "bytes"),
            span=6,
            runbook="thread-large",
        ),
        events(
            "Deleted by retention",
            "What was deleted because its time was over. Nothing while tables grow and retention"
            " is set: look for threads_kept_longer and runs_kept_longer in the log.",
            counted_by("headrace_threads_expired_total", "action", prefix="threads "),
            counted("headrace_runs_expired_total", "runs"),
            counted("headrace_store_items_expired_total", "items of the store"),
            span=6,
        ),
        graph(
            "Until a credential expires",
            "Seconds left for the password and the certificates of the database, where they are"
            " known. At 0 no new connection can be opened.",
            SECONDS,
            Line(least("headrace_credential_expires_seconds", by="credential"), "{{credential}}"),
            span=6,
            lowest=None,
            nothing="none is known to expire",
            runbook="credential-expires",
        ),
    ),
)

POOL_AND_POSTGRES = Board(
    "pool-and-postgres",
    "Pool & Postgres",
    "Are connections short, in which process, and why? How do the tables do?",
    (_NOW, _POOL, _COST, _TABLES),
)
