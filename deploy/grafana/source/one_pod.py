"""One pod: what this one is, what it uses, and how its processes differ."""

from deploy.grafana.source.boards import Board, Row
from deploy.grafana.source.panels import (
    A_SECOND,
    BYTES,
    NUMBER,
    REQUESTS_A_SECOND,
    SECONDS,
    events,
    figures,
    graph,
    verdict,
)
from deploy.grafana.source.queries import (
    PLAIN_ROUTES,
    Line,
    counted,
    counted_by,
    extremes,
    greatest,
    least,
    or_zero,
    over_processes,
    percentiles,
    quantile_by,
    rate,
    rate_by,
    series,
    total,
)

_WHAT = Row(
    "What it is, and how it is",
    (
        verdict(
            "State",
            "Ready: takes requests. Database: it answers. Schema: it is one that this version"
            " serves. A pod that is not ready and has both is starting, draining, or has a silent"
            " process.",
            Line(least("headrace_ready"), "ready"),
            Line(least("headrace_database_reachable"), "database"),
            Line(least("headrace_schema_fit"), "schema"),
            good="yes",
            bad="no",
            span=6,
            runbook="pod-not-ready",
        ),
        figures(
            "Version",
            "What this pod runs. Compare it with a pod that does well.",
            NUMBER,
            Line(
                f"sum by (version, python, langgraph, schema) ({series('headrace_build_info')})",
                "headrace {{version}}, Python {{python}}, langgraph {{langgraph}}, schema"
                " {{schema}}",
            ),
            span=6,
            names_only=True,
        ),
        figures(
            "Age of processes",
            "Seconds since the oldest and the newest process started. The newest is much younger:"
            " a process died and was replaced.",
            SECONDS,
            Line(f"time() - {least('headrace_process_start_time_min_seconds')}", "oldest"),
            Line(f"time() - {greatest('headrace_process_start_time_max_seconds')}", "newest"),
            span=6,
            runbook="processes-restart",
        ),
        figures(
            "Delay of the event loop",
            "Worst of the last 15 s, of the worst process. Above 0.1 s something blocks it.",
            SECONDS,
            Line(greatest("headrace_loop_lag_max_seconds"), "worst"),
            span=6,
            worry=0.1,
            trouble=1,
            runbook="loop-lag",
        ),
    ),
)

_RESOURCES = Row(
    "Resources: sums, and the processes that have least and most",
    (
        graph(
            "Memory",
            "Resident memory. Compare the sum with the pod's limit. One process grows and the"
            " others do not: a run there.",
            BYTES,
            Line(total("headrace_resident_memory_bytes"), "all processes"),
            *extremes("headrace_resident_memory", unit="_bytes"),
        ),
        graph(
            "Delay of event loops",
            "Seconds. Most above 0.1 while least is low: one run blocks its process;"
            " event_loop_blocked in the log names the line.",
            SECONDS,
            *extremes("headrace_loop_lag", unit="_seconds"),
            limit=0.1,
            runbook="loop-lag",
        ),
        events(
            "Loop blocked, and background faults",
            "Times that something blocked an event loop, and background tasks that failed. Both"
            " should stay at 0.",
            counted("headrace_loop_stalls_total", "loop blocked"),
            counted_by("headrace_background_faults_total", "task", prefix="fault: "),
            runbook="background-faults",
        ),
        graph(
            "Processes",
            "By state. starting again and again: they crash. stale: blocked, and killed soon.",
            NUMBER,
            Line(total("headrace_processes", by="state"), "{{state}}"),
            stacked=True,
            runbook="process-silent",
        ),
        graph(
            "Open files",
            "File descriptors, sockets included. They grow while requests do not: a graph opens"
            " connections and never closes them.",
            NUMBER,
            *over_processes("headrace_open_fds"),
        ),
        graph(
            "Garbage collections",
            "A second, by generation. The oldest generation rises together with the delay of"
            " loops: large states are copied often.",
            A_SECOND,
            Line(
                rate("headrace_gc_collections_total", by="generation"), "generation {{generation}}"
            ),
        ),
        graph(
            "Directory of metrics",
            "Bytes that the files of metrics take, and what is free there. Free near 0: metrics"
            " and soon the process fail.",
            BYTES,
            Line(greatest("headrace_metrics_directory_bytes"), "used"),
            Line(least("headrace_metrics_directory_free_bytes"), "free"),
            runbook="metrics-directory-full",
        ),
        graph(
            "Threads of sync nodes",
            "Threads that work for runs, beside how many one process may have. Near it: sync nodes"
            " wait for one another.",
            NUMBER,
            *over_processes("headrace_worker_threads_busy"),
            Line(greatest("headrace_worker_threads_most_max"), "limit of a process"),
        ),
        graph(
            "Not told",
            "Lines of the access log that sampling left out, and spans by what became of them."
            " dropped or failed: the collector of traces is away.",
            A_SECOND,
            Line(or_zero(rate("headrace_access_lines_dropped_total")), "access lines left out"),
            Line(rate("headrace_spans_total", by="outcome"), "spans {{outcome}}"),
        ),
    ),
)

_WORK = Row(
    "Work",
    (
        graph(
            "Requests",
            "A second, by status. Compare with another pod: if the rates differ much, the load"
            " balancer is uneven.",
            REQUESTS_A_SECOND,
            rate_by("headrace_http_requests_total", "status"),
            span=6,
            stacked=True,
        ),
        graph(
            "Time of plain requests",
            "Seconds; streams and waits are left out. Slow here and not in other pods: this node,"
            " or one run that blocks.",
            SECONDS,
            *percentiles("headrace_http_request_seconds", PLAIN_ROUTES),
            span=6,
        ),
        graph(
            "Requests in flight",
            "Requests being answered, streams included, of all processes and the extremes.",
            NUMBER,
            *over_processes("headrace_requests_in_flight"),
            span=6,
        ),
        graph(
            "Runs being executed",
            "Of all processes, and of those with most and least.",
            NUMBER,
            *over_processes("headrace_runs_running"),
            span=6,
        ),
    ),
)

_POOL = Row(
    "Pool and lease",
    (
        graph(
            "Connections in use",
            "Of all processes and the extremes, beside what one process may open.",
            NUMBER,
            *over_processes("headrace_pool_in_use"),
            Line(greatest("headrace_pool_max_size_max"), "limit of a process"),
            span=6,
            runbook="pool-saturated",
        ),
        graph(
            "Waiting for a connection",
            "Requests that wait. Only this pod has some: it leaks, or it has more than its share"
            " of the load.",
            NUMBER,
            *over_processes("headrace_pool_waiting"),
            span=6,
            runbook="pool-saturated",
        ),
        graph(
            "Checkpoint to commit, p99",
            "Seconds. Only this pod is slow: its way to the database, or its event loop. All are"
            " slow: the database.",
            SECONDS,
            quantile_by(0.99, "headrace_checkpoint_commit_seconds", "operation"),
            span=6,
            runbook="checkpoints-slow",
        ),
        graph(
            "Lease left",
            "Seconds until a process would lose its lease, and its runs with it. A line that"
            " falls: it cannot renew.",
            SECONDS,
            *extremes("headrace_lease_left", unit="_seconds"),
            span=6,
            runbook="lease-lost",
        ),
    ),
)

ONE_POD = Board(
    "one-pod",
    "One pod",
    "What is this pod, what does it use, and how do its processes differ? Choose it by Pod or"
    " Instance.",
    (_WHAT, _RESOURCES, _WORK, _POOL),
    one_pod=True,
)
