"""Overview: which part is the trouble, what callers see, and what is full."""

from deploy.grafana.source.boards import Board, Row
from deploy.grafana.source.panels import (
    A_SECOND,
    BYTES,
    NUMBER,
    REQUESTS_A_SECOND,
    SECONDS,
    SHARE,
    events,
    figures,
    graph,
    verdict,
)
from deploy.grafana.source.queries import (
    LONG_ROUTES,
    PLAIN_ROUTES,
    Line,
    counted,
    counted_by,
    extremes,
    greatest,
    least,
    or_zero,
    percentiles,
    quantile,
    rate,
    rate_by,
    series,
    share,
    times,
    total,
)

_REQUESTS = "headrace_http_requests_total"
_RUNS = "headrace_runs_total"
_CUT, _BY_CLIENTS = "headrace_streams_cut_total", 'reason=~"client_left|slow_client"'
_VERSIONS = f"count(count by (version) ({series('headrace_build_info')}))"
_LEFT = "of 100 streams cut"
#: A job may scrape pods of others too.
_NOT_REACHED = or_zero(
    f"count({series('up')} == 0 and on (job, instance)"
    f" last_over_time({series('headrace_ready')}[1h]))"
)
#: A connection that is being checked is nobody's yet, and nobody can have it.
_OF_POD = (
    f"({series('headrace_pool_in_use')} + {series('headrace_pool_checking')})"
    f" / {series('headrace_pool_max_size')}"
)
_OF_PROCESS = f"{series('headrace_pool_in_use_max')} / {series('headrace_pool_max_size_max')}"

_SUSPECTS = Row(
    "Which one is it? The leftmost that is not green is the cause; what is right of it may only"
    " follow",
    (
        verdict(
            "Database",
            "trouble: at least one pod gets no answer from Postgres, and everything right of this"
            " panel suffers with it. Look at Postgres and the way to it first. Else go on to the"
            " right.",
            Line(least("headrace_database_reachable"), "Postgres"),
            Line(least("headrace_schema_fit"), "schema"),
            good="ok",
            bad="trouble",
            runbook="database-unreachable",
        ),
        figures(
            "Pool",
            "Seconds that a request waits for a connection. Above 0.1 s callers feel it, above 1 s"
            " requests are refused soon. The database is well and this is not: the pool is too"
            " small, or something holds connections.",
            SECONDS,
            Line(quantile(0.99, "headrace_pool_checkout_seconds"), "wait, p99"),
            worry=0.1,
            trouble=1,
            runbook="pool-saturated",
        ),
        figures(
            "Graph",
            "Share of ended runs that a graph's own code ended with an error, or that ran out of"
            " time or budget. Runs that headrace itself failed are in the panel below, by cause."
            " High for one graph: its code or its model.",
            SHARE,
            Line(
                share(
                    rate("headrace_run_errors_total", 'cause=~"graph|timeout|budget|deadline"'),
                    rate(_RUNS),
                ),
                "runs failed",
            ),
            worry=0.05,
            trouble=0.2,
            runbook="graph-fails",
        ),
        figures(
            "Deploy",
            "Versions that run beside the first, and pods that are not ready. A second version: a"
            " deploy is on its way. A pod that stays unready: its log says why. Blue lines in the"
            " graphs are starts of processes.",
            NUMBER,
            Line(f"{_VERSIONS} - 1", "further versions"),
            Line(or_zero(f"count({series('headrace_ready')} == 0)"), "pods not ready"),
            worry=1,
            trouble=3,
            runbook="pod-not-ready",
        ),
        figures(
            "Network",
            "Pods of the last hour that Prometheus cannot reach, and of 100 streams and waits"
            " those that broke off because of their client or the way to it. Some clients always"
            " leave; all of them at once is a load balancer, the Ingress or the network.",
            NUMBER,
            Line(_NOT_REACHED, "pods not reached"),
            Line(
                f"100 * {share(rate(_CUT, _BY_CLIENTS), rate(_REQUESTS, LONG_ROUTES))}",
                _LEFT,
            ),
            worry=1,
            trouble=2,
            own_levels={_LEFT: (20, 50)},
            runbook="scrape-fails",
        ),
        figures(
            "Callers",
            "Share of requests that got a server's error (5xx). This is what users feel: if it is"
            " green, nobody is hurt yet.",
            SHARE,
            Line(share(rate(_REQUESTS, 'status=~"5.."'), rate(_REQUESTS)), "requests failed"),
            worry=0.01,
            trouble=0.05,
            runbook="error-budget-burns-fast",
        ),
    ),
)

_REQUESTS_ROW = Row(
    "What callers see",
    (
        graph(
            "Requests",
            "Requests answered a second, by kind of status. Look for a sudden fall (nobody gets"
            " through) and for growing 5xx.",
            REQUESTS_A_SECOND,
            *(Line(rate(_REQUESTS, f'status=~"{digit}.."'), f"{digit}xx") for digit in (2, 4, 5)),
            span=6,
            stacked=True,
        ),
        events(
            "Refused and failed, by code",
            "Answers with status 429 or 5xx, by their code, within each step of the picture. The"
            " code says what was short: look it up in docs/request-errors.md.",
            Line(times(_REQUESTS, 'status=~"429|5.."', by="code"), "{{code}}"),
            span=6,
            runbook="error-budget-burns-fast",
        ),
        graph(
            "Time of plain requests",
            "Seconds until a plain request is answered; streams and waits are left out. All rise"
            " together: pool or event loop. Only p99 rises: single large states.",
            SECONDS,
            *percentiles("headrace_http_request_seconds", PLAIN_ROUTES),
            span=6,
        ),
        graph(
            "Time to a run's first event",
            "Seconds from a run's creation to the first event of its graph: what a user who"
            " watches waits for. It contains the wait in the queue.",
            SECONDS,
            *percentiles("headrace_run_first_event_seconds"),
            span=6,
            runbook="first-event-slow",
        ),
    ),
)

_RUNS_ROW = Row(
    "Runs",
    (
        graph(
            "Runs ended",
            "Runs that ended a second, by status. Fewer successes while requests stay: runs hang"
            " or wait.",
            A_SECOND,
            rate_by(_RUNS, "status"),
            span=6,
            stacked=True,
        ),
        events(
            "Why runs failed",
            "Errors by cause, within each step of the picture. graph, timeout, budget: the graph."
            " platform, lost: headrace or its pods. unserved: nobody serves that graph.",
            counted_by("headrace_run_errors_total", "cause"),
            span=6,
            runbook="runs-fail",
        ),
        graph(
            "Queue",
            "Runs that wait, of all pods together. It grows without end: too few places for runs,"
            " or nobody serves their graph.",
            NUMBER,
            Line(greatest("headrace_runs_pending"), "waiting"),
            Line(total("headrace_runs_running"), "running"),
            span=6,
            runbook="queue-old",
        ),
        graph(
            "Age of the oldest run",
            "Seconds that the longest ready run has waited, and that the longest run has been"
            " executed. A straight line up on the first: nothing is taken out of the queue.",
            SECONDS,
            Line(greatest("headrace_oldest_ready_seconds"), "oldest that waits"),
            Line(greatest("headrace_oldest_running_seconds"), "oldest that runs"),
            span=6,
            runbook="queue-old",
        ),
    ),
)

_SATURATION = Row(
    "What is full",
    (
        graph(
            "Connections in use",
            "Share of its connections that the fullest process uses, and that pods use or check. At"
            " 100 % requests wait. Process full, pod not: load is uneven, or that process leaks.",
            SHARE,
            Line(f"max({_OF_PROCESS})", "fullest process"),
            Line(f"max({_OF_POD})", "fullest pod"),
            Line(f"min({_OF_POD})", "emptiest pod"),
            span=6,
            limit=0.9,
            runbook="pool-saturated",
        ),
        graph(
            "Delay of event loops",
            "Worst delay of an event loop in the last 15 s. Above 0.1 s something blocks it, most"
            " often a graph that calls synchronous code; the log event event_loop_blocked names"
            " the line.",
            SECONDS,
            *extremes("headrace_loop_lag", unit="_seconds"),
            span=6,
            limit=0.1,
            runbook="loop-lag",
        ),
        graph(
            "Memory",
            "Resident memory of the largest and the smallest process. Growth without end in one:"
            " what graphs keep between runs. Compare with the memory limit of the pod.",
            BYTES,
            *extremes("headrace_resident_memory", unit="_bytes"),
            span=6,
        ),
        graph(
            "At once",
            "Requests, streams and connections of clients that are open now. Connections grow and"
            " requests do not: clients that do not close.",
            NUMBER,
            Line(total("headrace_requests_in_flight"), "requests"),
            Line(total("headrace_streams_open"), "streams"),
            Line(total("headrace_connections_open"), "connections"),
            span=6,
        ),
    ),
)

_DEPLOY = Row(
    "Deploy",
    (
        graph(
            "Pods by version",
            "How many pods run each version. In a rolling deploy one line falls as the other"
            " rises; compare with the moment at which the trouble began.",
            NUMBER,
            Line(f"count by (version) ({series('headrace_build_info')})", "{{version}}"),
            stacked=True,
            runbook="pod-not-ready",
        ),
        graph(
            "Processes",
            "Server processes by state. stale: an event loop is blocked. draining for long: runs"
            " or streams do not end. starting again and again: they crash.",
            NUMBER,
            Line(total("headrace_processes", by="state"), "{{state}}"),
            stacked=True,
            runbook="process-silent",
        ),
        events(
            "Losses",
            "Leases lost, runs rescued and background tasks that failed, within each step of the"
            " picture. Each should stay at 0.",
            counted("headrace_lease_losses_total", "leases lost"),
            counted("headrace_rescues_total", "runs rescued"),
            counted("headrace_background_faults_total", "background faults"),
            runbook="rescue-storm",
        ),
    ),
)

OVERVIEW = Board(
    "overview",
    "Overview",
    "Which part is the trouble: database, pool, graph, deploy or network? Then what callers see,"
    " and what is full.",
    (_SUSPECTS, _REQUESTS_ROW, _RUNS_ROW, _SATURATION, _DEPLOY),
)
