"""Runs & queue: do runs wait, why do they fail, and what happens to those of lost processes?"""

from deploy.grafana.source.boards import Board, Row
from deploy.grafana.source.panels import (
    A_SECOND,
    NUMBER,
    SECONDS,
    SHARE,
    events,
    figures,
    graph,
)
from deploy.grafana.source.queries import (
    Line,
    counted,
    counted_by,
    extremes,
    greatest,
    least,
    or_zero,
    over_processes,
    quantile,
    quantile_by,
    rate,
    rate_by,
    share,
    total,
)

_NOW = Row(
    "Now: figures of the queue are of all pods together",
    (
        figures(
            "Oldest that waits",
            "Seconds since the longest ready run could have been taken. Above some seconds: all"
            " processes are full, or none has its graph.",
            SECONDS,
            Line(greatest("headrace_oldest_ready_seconds"), "age"),
            worry=10,
            trouble=60,
            runbook="queue-old",
        ),
        figures(
            "Waiting",
            "Runs in the queue, counted up to 10,000. Compare with how many end a second.",
            NUMBER,
            Line(greatest("headrace_runs_pending"), "runs"),
            worry=100,
            trouble=1000,
            runbook="queue-old",
        ),
        figures(
            "Nobody serves them",
            "Runs that wait for a graph that no process has: a deployment is missing, or names"
            " other graphs.",
            NUMBER,
            Line(or_zero(f"sum({greatest('headrace_runs_unserved', by='graph')})"), "runs"),
            worry=1,
            trouble=1,
            runbook="runs-unserved",
        ),
        figures(
            "Running",
            "Runs being executed, and how many the fullest process has. The second at"
            " HEADRACE_WORKER__MAX_CONCURRENT_RUNS: add processes.",
            NUMBER,
            Line(total("headrace_runs_running"), "all"),
            Line(greatest("headrace_runs_running_max"), "fullest process"),
        ),
        figures(
            "Oldest that runs",
            "Seconds that the longest run has been executed. Far above what graphs need: a model"
            " that does not answer, or a loop.",
            SECONDS,
            Line(greatest("headrace_oldest_running_seconds"), "age"),
            worry=900,
            trouble=3600,
        ),
        figures(
            "Failed",
            "Share of ended runs with status error or timeout; the row Execution says why.",
            SHARE,
            Line(
                share(
                    rate("headrace_runs_total", 'status=~"error|timeout"'),
                    rate("headrace_runs_total"),
                ),
                "runs",
            ),
            worry=0.05,
            trouble=0.2,
            runbook="runs-fail",
        ),
    ),
)

_QUEUE = Row(
    "Queue",
    (
        graph(
            "Runs that wait",
            "It grows without end: more runs come than places become free. It jumps and falls:"
            " bursts, which the queue is for.",
            NUMBER,
            Line(greatest("headrace_runs_pending"), "waiting"),
            Line(greatest("headrace_runs_unserved", by="graph"), "unserved: {{graph}}"),
            span=6,
            runbook="queue-old",
        ),
        graph(
            "Wait in the queue, p95",
            "Seconds from when a run may start to its first attempt, by graph. One graph waits and"
            " others do not: too few processes have it.",
            SECONDS,
            quantile_by(0.95, "headrace_run_queue_seconds", "graph"),
            span=6,
            runbook="queue-old",
        ),
        graph(
            "Attempts",
            "Attempts that began a second. in_place: in the process that was asked. claimed: out"
            " of the queue. after_release and after_loss: again, after a drain or a lost process.",
            A_SECOND,
            rate_by("headrace_run_attempts_total", "began"),
            span=6,
            stacked=True,
        ),
        graph(
            "Shares of callers",
            "Callers who have all the places that their share allows, and the places of the caller"
            " with most. Above 0 while runs wait: one caller holds back its own runs.",
            NUMBER,
            Line(total("headrace_callers_at_limit"), "callers at their limit"),
            Line(greatest("headrace_caller_places_max"), "places of the largest caller"),
            counted("headrace_refused_runs_total", "runs refused (429)"),
            span=6,
        ),
    ),
)

_EXECUTION = Row(
    "Execution",
    (
        graph(
            "Runs ended",
            "A second, by status. Less success at the same load: runs hang, wait or fail.",
            A_SECOND,
            rate_by("headrace_runs_total", "status"),
            stacked=True,
        ),
        events(
            "Why runs failed",
            "By graph and cause, within each step of the picture. graph: its code raised. timeout,"
            " budget: it took too long or too much. platform, lost: headrace or its pods."
            " unserved: nobody has the graph.",
            counted_by("headrace_run_errors_total", "graph, cause"),
            runbook="runs-fail",
        ),
        graph(
            "Runs being executed",
            "All, and the processes with most and least. Most at the limit while least is low:"
            " runs are spread unevenly.",
            NUMBER,
            *over_processes("headrace_runs_running"),
        ),
        graph(
            "Duration, p95",
            "Seconds that runs are executed, by graph. One line rises: that graph or its model."
            " All rise: the database, or busy event loops.",
            SECONDS,
            quantile_by(0.95, "headrace_run_seconds", "graph"),
        ),
        graph(
            "First event, p95",
            "Seconds from a run's creation to its graph's first event, by graph. Subtract the wait"
            " in the queue: what is left is the graph's first step.",
            SECONDS,
            quantile_by(0.95, "headrace_run_first_event_seconds", "graph"),
            runbook="first-event-slow",
        ),
        graph(
            "Slowest nodes, p95",
            "The ten nodes that take longest. A node that rises is where to look in the graph's"
            " code.",
            SECONDS,
            Line(
                f"topk(10, {quantile(0.95, 'headrace_node_seconds', by='graph, node')})",
                "{{graph}}: {{node}}",
            ),
        ),
        graph(
            "Steps",
            "Steps a second, and nodes that a later attempt executes again. Those come after drains"
            " and lost processes: what they do outside happens twice.",
            A_SECOND,
            Line(rate("headrace_steps_total"), "steps"),
            Line(or_zero(rate("headrace_repeated_nodes_total")), "repeated nodes"),
        ),
        graph(
            "Threads of sync nodes",
            "Threads that work for runs, beside how many there may be. Near the limit: sync nodes"
            " wait for one another; make them async.",
            NUMBER,
            *extremes("headrace_worker_threads_busy"),
            Line(greatest("headrace_worker_threads_most_max"), "limit of a process"),
        ),
        events(
            "Cancels and slow nodes",
            "Runs that were cancelled, by reason, and nodes slower than the limit (the log event"
            " node_slow names them).",
            counted_by("headrace_run_cancels_total", "reason", prefix="cancelled: "),
            counted_by("headrace_slow_nodes_total", "graph", prefix="slow nodes: "),
        ),
    ),
)

_LOSSES = Row(
    "Lost processes and drains",
    (
        events(
            "Runs rescued",
            "Runs taken from lost processes, by what became of them, and runs rescued for at least"
            " the second time. Any repeated rescue: that run may kill processes.",
            counted_by("headrace_rescues_total", "status"),
            counted("headrace_repeated_rescues_total", "again"),
            span=6,
            runbook="rescue-storm",
        ),
        events(
            "Leases lost, runs apart",
            "A process that loses its lease loses its runs: the database or the event loop was"
            " away too long. Apart: a run that may have killed a process has one to itself.",
            counted("headrace_lease_losses_total", "leases lost"),
            counted("headrace_runs_apart_total", "runs apart"),
            span=6,
            runbook="lease-lost",
        ),
        graph(
            "Lease left",
            "Seconds until the lease of the worst process would end. It is renewed all the time: a"
            " line that falls is a process about to lose its runs.",
            SECONDS,
            Line(least("headrace_lease_left_min_seconds"), "process with least"),
            Line(greatest("headrace_lease_left_max_seconds"), "process with most"),
            span=6,
            runbook="lease-lost",
        ),
        events(
            "Drains, and runs that do not stop",
            "Runs of draining processes: finished, released between two steps, or cut in a step."
            " deaf: a run has ended and its graph goes on; it keeps its place.",
            counted_by("headrace_drained_runs_total", "outcome", prefix="drained: "),
            Line(total("headrace_deaf_runs"), "deaf now"),
            span=6,
        ),
    ),
)

_MODELS = Row(
    "Models",
    (
        graph(
            "Tokens",
            "A second, by model and kind. A jump without more runs: a loop, or a longer history.",
            A_SECOND,
            rate_by("headrace_model_tokens_total", "model, kind"),
            span=6,
            nothing="no model has told its tokens",
            stacked=True,
        ),
        graph(
            "Calls",
            "Calls of models a second, by outcome. error grows for one model: its provider.",
            A_SECOND,
            rate_by("headrace_model_calls_total", "model, outcome"),
            span=6,
            stacked=True,
        ),
        graph(
            "Duration of calls, p95",
            "Seconds that a model takes. It rises, and the duration of runs with it: the provider"
            " is slow, not this server.",
            SECONDS,
            quantile_by(0.95, "headrace_model_seconds", "model"),
            span=6,
        ),
        events(
            "Budgets exceeded",
            "Runs that a budget ended, by budget. Each ended with an error that names it.",
            counted_by("headrace_budget_exceeded_total", "budget"),
            span=6,
        ),
    ),
)

RUNS_AND_QUEUE = Board(
    "runs-and-queue",
    "Runs & queue",
    "Do runs wait, how long do they take, why do they fail, and what becomes of runs of lost"
    " processes?",
    (_NOW, _QUEUE, _EXECUTION, _LOSSES, _MODELS),
)
