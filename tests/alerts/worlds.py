"""Worlds for promtool: series of a made-up installation, and what each alert makes of them.

A sample comes each minute, as promtool writes series: ``0+5x30`` begins at 0 and rises by 5, thirty
times; ``_`` is no sample, ``stale`` the end of a series. Minutes are counted from the
beginning of a world.
"""

from dataclasses import dataclass

#: Series, as promtool writes them, to their samples.
World = dict[str, str]


@dataclass(frozen=True)
class Case:
    """An alert is silent at ``silent_at``, fires at ``fires_at``, and has ended at ``ends_at``."""

    fires: World
    fires_at: int
    ends_at: int
    #: Within its ``for``.
    silent_at: int = 1
    #: Just below, or of another cause: the alert never fires.
    silent: tuple[World, ...] = ()


def series(metric: str, **labels: str) -> str:
    """A series of pod ``a``, unless ``instance`` says another."""
    known = {"job": "headrace", "instance": "a", **labels}
    return metric + "{" + ", ".join(f'{name}="{value}"' for name, value in known.items()) + "}"


def requests(samples: str, status: str = "200", route: str = "/threads", code: str = "") -> World:
    labels = {"method": "GET", "route": route, "status": status, "code": code}
    return {series("headrace_http_requests_total", **labels): samples}


def histogram(metric: str, buckets: dict[str, str], **labels: str) -> World:
    """Cumulative buckets by upper bound; the last one is all."""
    world = {series(f"{metric}_bucket", le=le, **labels): text for le, text in buckets.items()}
    return world | {series(f"{metric}_count", **labels): buckets["+Inf"]}


def sampled(metric: str, samples: str, **labels: str) -> World:
    return {series(metric, **labels): samples}


def first_events(in_time: str, runs: str) -> World:
    """Runs whose first event came within 10 s, and all runs."""
    buckets = {"10": in_time, "30": runs, "+Inf": runs}
    return histogram("headrace_run_first_event_seconds", buckets, graph="chat")


def commits(in_time: str, puts: str) -> World:
    """Checkpoints that were committed within 0.5 s, and all checkpoints."""
    buckets = {"0.5": in_time, "1": puts, "+Inf": puts}
    return histogram("headrace_checkpoint_commit_seconds", buckets, operation="put")


def failing(failed: str, cause: str, *, ended: str) -> World:
    """Runs of one graph that failed by that cause, and all that ended."""
    return sampled("headrace_runs_total", ended, graph="chat", status="success") | sampled(
        "headrace_run_errors_total", failed, graph="chat", cause=cause
    )


def table(**figures: str) -> World:
    """Figures of the table ``runs``: ``dead_rows`` is ``headrace_table_dead_rows``."""
    return {series(f"headrace_table_{name}", table="runs"): text for name, text in figures.items()}


CASES: dict[str, Case] = {
    "HeadraceErrorBudgetBurnsFast": Case(
        fires=requests("0+1000x120") | requests("0+100x60 6000x60", "503", code="pool_exhausted"),
        fires_at=10,
        ends_at=70,
        silent=(
            requests("0+1000x120") | requests("0+13x120", "500"),
            # What a caller asks for in vain, probes, and a few failures of a quiet night.
            requests("0+10x120") | requests("0+100x120", "501") | requests("0+100x120", "429"),
            requests("0+10x120") | requests("0+100x120", "503", route="/readyz"),
            requests("0+1x120") | requests("0x20 0+1x9 9x90", "503"),
        ),
    ),
    "HeadraceErrorBudgetBurns": Case(
        fires=requests("0+1000x480")
        | sampled("headrace_streams_cut_total", "0+8x60 480x420", reason="fault"),
        fires_at=30,
        ends_at=100,
        silent=(
            requests("0+1000x480") | requests("0+5x480", "500"),
            requests("0+1000x480")
            | sampled("headrace_streams_cut_total", "0+80x480", reason="client_left"),
        ),
    ),
    "HeadraceFirstEventSlow": Case(
        fires=first_events("0+90x30 2700x30", "0+100x30 3000x30"),
        fires_at=15,
        ends_at=45,
        silent=(
            first_events("0+96x60", "0+100x60"),
            first_events("0x20 1x40", "0x20 5x40"),
        ),
    ),
    "HeadraceQueueOld": Case(
        fires=sampled("headrace_oldest_ready_seconds", "61x10 0x20"),
        fires_at=3,
        ends_at=12,
        silent=(
            sampled("headrace_oldest_ready_seconds", "60x60"),
            sampled("headrace_oldest_ready_seconds", "0 90 0 90 0 90 0"),
        ),
    ),
    "HeadraceRunsUnserved": Case(
        fires=sampled("headrace_runs_unserved", "3x10 0x20", graph="gone"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(sampled("headrace_runs_unserved", "3x4 0x60", graph="gone"),),
    ),
    "HeadraceRunsFail": Case(
        fires=failing("0+5x20 100x40", "platform", ended="0+100x60"),
        fires_at=6,
        ends_at=35,
        silent=(
            failing("0+2x60", "lost", ended="0+100x60"),
            failing("0+50x60", "graph", ended="0+100x60"),
        ),
    ),
    "HeadraceGraphFails": Case(
        fires=failing("0+6x30 180x50", "graph", ended="0+10x80"),
        fires_at=15,
        ends_at=50,
        silent=(
            failing("0+5x80", "graph", ended="0+10x80"),
            failing("0x20 0+1x9 9x50", "graph", ended="0x20 0+1x9 9x50"),
        ),
    ),
    "HeadraceLeaseLost": Case(
        fires=sampled("headrace_lease_losses_total", "0x5 1x60"),
        fires_at=6,
        ends_at=25,
        silent=(sampled("headrace_lease_losses_total", "4x60"),),
    ),
    "HeadraceRescueStorm": Case(
        fires=sampled("headrace_rescues_total", "0+1x12 12x60", status="pending"),
        fires_at=10,
        ends_at=40,
        silent_at=2,
        silent=(
            # One process with two hundred runs; and three processes within twenty minutes.
            sampled("headrace_rescues_total", "0x5 200x60", status="pending"),
            sampled("headrace_rescues_total", "0x4 9x5 20x5 30x50", status="pending"),
        ),
    ),
    "HeadracePoisonRun": Case(
        fires=sampled("headrace_repeated_rescues_total", "0x5 1x60"),
        fires_at=6,
        ends_at=25,
        silent=(
            sampled("headrace_repeated_rescues_total", "2x60")
            | sampled("headrace_rescues_total", "0x5 200x60", status="pending"),
        ),
    ),
    "HeadraceStreamsCut": Case(
        fires=sampled("headrace_streams_cut_total", "_x5 11x60", reason="slow_client"),
        fires_at=9,
        ends_at=25,
        silent_at=6,
        silent=(
            sampled("headrace_streams_cut_total", "0x5 0+1x9 9x60", reason="fault"),
            sampled("headrace_streams_cut_total", "_x5 10x60", reason="slow_client"),
            sampled("headrace_streams_cut_total", "0+50x60", reason="client_left")
            | sampled("headrace_streams_cut_total", "0+50x60", reason="drain"),
        ),
    ),
    "HeadraceCronsLate": Case(
        fires=sampled("headrace_oldest_cron_overdue_seconds", "61x10 0x20"),
        fires_at=3,
        ends_at=12,
        silent=(
            sampled("headrace_oldest_cron_overdue_seconds", "60x60"),
            # After an outage, and then its one run is made.
            sampled("headrace_oldest_cron_overdue_seconds", "0 900 0x58"),
        ),
    ),
    "HeadraceCronsDisabled": Case(
        fires=sampled("headrace_cron_slots_total", "0x5 1x60", outcome="disabled"),
        fires_at=6,
        ends_at=40,
        silent=(
            sampled("headrace_cron_slots_total", "3x60", outcome="disabled")
            | sampled("headrace_cron_slots_total", "0+9x60", outcome="fired")
            | sampled("headrace_cron_slots_total", "0+9x60", outcome="busy"),
        ),
    ),
    "HeadraceWebhooksLate": Case(
        fires=sampled("headrace_oldest_webhook_overdue_seconds", "61x10 0x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(
            sampled("headrace_oldest_webhook_overdue_seconds", "60x60"),
            sampled("headrace_oldest_webhook_overdue_seconds", "900x4 0x56"),
        ),
    ),
    "HeadraceWebhooksDead": Case(
        fires=sampled("headrace_webhook_calls_total", "0x5 1x60", outcome="dead"),
        fires_at=6,
        ends_at=40,
        silent=(
            sampled("headrace_webhook_calls_total", "3x60", outcome="dead")
            | sampled("headrace_webhook_calls_total", "0+9x60", outcome="retried"),
        ),
    ),
    "HeadraceDatabaseUnreachable": Case(
        fires=sampled("headrace_database_reachable", "1x3 0x5 1x20")
        | sampled("headrace_database_reachable", "1x30", instance="b"),
        fires_at=6,
        ends_at=11,
        silent_at=4,
        silent=(sampled("headrace_database_reachable", "1 1 0 1 1 1 0 1"),),
    ),
    "HeadraceSchemaMismatch": Case(
        fires=sampled("headrace_schema_fit", "0x8 1x20"),
        fires_at=6,
        ends_at=10,
        silent_at=4,
        silent=(sampled("headrace_schema_fit", "1x5 0x4 1x60"),),
    ),
    "HeadracePoolSaturated": Case(
        fires=sampled("headrace_pool_waiting_max", "4x15 0x20")
        | sampled("headrace_pool_timeouts_total", "0x5 0+7x10 70x20")
        | sampled("headrace_database_reachable", "1x40"),
        fires_at=8,
        ends_at=22,
        silent_at=2,
        silent=(
            sampled("headrace_pool_waiting_max", "0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9"),
            # The database is away: another alert tells that.
            sampled("headrace_pool_waiting_max", "4x15 0x20")
            | sampled("headrace_pool_timeouts_total", "0+7x40")
            | sampled("headrace_database_reachable", "0x40"),
        ),
    ),
    "HeadraceConnectionsLeak": Case(
        fires=sampled("headrace_pool_leaked_max", "1x20 0x20"),
        fires_at=11,
        ends_at=25,
        silent=(sampled("headrace_pool_leaked_max", "1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0"),),
    ),
    "HeadraceCheckpointsSlow": Case(
        fires=commits("0+98x30 2940x30", "0+100x30 3000x30"),
        fires_at=15,
        ends_at=45,
        silent=(
            commits("0+995x60", "0+1000x60"),
            commits("0+1x60", "0+9x60"),
        ),
    ),
    "HeadraceListenerDown": Case(
        fires=sampled("headrace_notices_connected_min", "1x5 0x10 1x20")
        | sampled("headrace_notices_connected_max", "1x40"),
        fires_at=12,
        ends_at=18,
        silent_at=8,
        silent=(
            # Behind a pooler there is never one.
            sampled("headrace_notices_connected_min", "0x60")
            | sampled("headrace_notices_connected_max", "0x60"),
        ),
    ),
    "HeadraceTableBloated": Case(
        fires=table(dead_rows="30000x40 0x20", rows="20000x60"),
        fires_at=32,
        ends_at=43,
        silent_at=28,
        silent=(
            table(dead_rows="19000x60", rows="20000x60"),
            table(dead_rows="9000x60", rows="10x60"),
        ),
    ),
    "HeadraceVacuumOverdue": Case(
        fires=table(dead_rows="9000x40 0x20", rows="20000x60", since_vacuum_seconds="90000x60"),
        fires_at=32,
        ends_at=43,
        silent_at=28,
        silent=(
            table(dead_rows="9000x60", rows="20000x60", since_vacuum_seconds="86000x60"),
            table(dead_rows="6000x60", rows="20000x60", since_vacuum_seconds="900000x60"),
        ),
    ),
    "HeadraceSequentialScans": Case(
        fires=table(sequential_scans_total="0+12x40 480x40", rows="20000x80"),
        fires_at=30,
        ends_at=60,
        silent=(
            table(sequential_scans_total="0+5x80", rows="20000x80"),
            table(sequential_scans_total="0+600x80", rows="10000x80"),
        ),
    ),
    "HeadraceOldTransaction": Case(
        fires=sampled("headrace_oldest_transaction_seconds", "0+60x40 0x20"),
        fires_at=38,
        ends_at=42,
        silent_at=33,
        silent=(sampled("headrace_oldest_transaction_seconds", "0+60x30 0x30"),),
    ),
    "HeadraceThreadLarge": Case(
        fires=sampled("headrace_largest_thread_bytes", "0x5 1073741825 0x60"),
        fires_at=10,
        ends_at=40,
        silent=(sampled("headrace_largest_thread_bytes", "1073741824x60"),),
    ),
    "HeadraceCredentialExpires": Case(
        fires=sampled("headrace_credential_expires_seconds", "1209599x10 9000000x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(sampled("headrace_credential_expires_seconds", "1209600x60"),),
    ),
    "HeadraceCredentialExpiresNow": Case(
        fires=sampled("headrace_credential_expires_seconds", "86399x10 9000000x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(sampled("headrace_credential_expires_seconds", "86400x60"),),
    ),
    "HeadraceNoPodReady": Case(
        fires=sampled("headrace_ready", "0x6 1x20")
        | sampled("headrace_ready", "0x26", instance="b"),
        fires_at=3,
        ends_at=8,
        silent=(
            sampled("headrace_ready", "0x60") | sampled("headrace_ready", "1x60", instance="b"),
        ),
    ),
    "HeadracePodNotReady": Case(
        fires=sampled("headrace_ready", "0x15 1x20")
        | sampled("headrace_processes", "0x40", state="draining"),
        fires_at=11,
        ends_at=17,
        silent_at=9,
        silent=(
            sampled("headrace_ready", "0x60")
            | sampled("headrace_processes", "2x60", state="draining"),
            sampled("headrace_ready", "0x9 1x60"),
        ),
    ),
    "HeadraceProcessSilent": Case(
        fires=sampled("headrace_processes", "0 1 1 1 0x20", state="stale"),
        fires_at=3,
        ends_at=5,
        silent=(sampled("headrace_processes", "2x60", state="serving"),),
    ),
    "HeadraceProcessesRestart": Case(
        fires=sampled("headrace_process_start_time_max_seconds", "1 2 3 4 5x60"),
        fires_at=5,
        ends_at=25,
        silent=(sampled("headrace_process_start_time_max_seconds", "1 2 3 4x60"),),
    ),
    "HeadraceLoopLag": Case(
        fires=sampled("headrace_loop_lag_max_seconds", "0.6x10 0x20"),
        fires_at=6,
        ends_at=12,
        silent=(
            sampled("headrace_loop_lag_max_seconds", "0.5x60"),
            sampled("headrace_loop_lag_max_seconds", "0.1 3 0.1 3 0.1 3 0.1 3 0.1 3 0.1 3"),
        ),
    ),
    "HeadraceBackgroundFaults": Case(
        fires=sampled("headrace_background_faults_total", "_x5 1x60", task="rescuer"),
        fires_at=7,
        ends_at=25,
        # Where it fires from the first sample on, that sample is its first.
        silent=({"up": "1x60"},),
    ),
    "HeadraceMetricsDirectoryFull": Case(
        fires=sampled("headrace_metrics_directory_free_bytes", "16777215x10 67108864x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(sampled("headrace_metrics_directory_free_bytes", "16777216x60"),),
    ),
    "HeadraceScrapeFails": Case(
        fires=sampled("up", "0x10 1x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(sampled("up", "0x60", job="other"), sampled("up", "0x4 1x60")),
    ),
    "HeadraceGone": Case(
        fires=sampled("up", "0x10 1x20") | sampled("up", "1x60", job="other"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(sampled("up", "0x60") | sampled("up", "1x60", instance="b"),),
    ),
}

_BUSY = requests("0+1000x60") | sampled("headrace_database_reachable", "1x60", instance="c")
_PROCESS = "headrace_process_start_time_max_seconds"

#: What happens every day: no alert may fire.
EVERYDAY: dict[str, World] = {
    "a rolling deploy of two pods": _BUSY
    | sampled("up", "1x12 stale", instance="old")
    | sampled("headrace_ready", "1x10 0x2 stale", instance="old")
    | sampled("headrace_processes", "0x10 2x2 stale", instance="old", state="draining")
    | sampled("headrace_notices_connected_min", "1x10 0x2 stale", instance="old")
    | sampled("headrace_notices_connected_max", "1x12 stale", instance="old")
    | sampled("headrace_schema_fit", "1x10 0x2 stale", instance="old")
    | sampled(
        "headrace_drained_runs_total", "0x10 5x2 stale", instance="old", outcome="at_boundary"
    )
    | sampled("headrace_streams_cut_total", "0x10 40x2 stale", instance="old", reason="drain")
    | sampled("headrace_runs_unserved", "0x8 4x4 0x48", graph="new")
    | sampled("up", "_x8 0 1x50", instance="new")
    | sampled("headrace_ready", "_x9 0x2 1x48", instance="new")
    | sampled("headrace_database_reachable", "_x9 0 1x49", instance="new")
    | sampled("headrace_notices_connected_min", "_x9 0 1x49", instance="new")
    | sampled("headrace_notices_connected_max", "_x9 0 1x49", instance="new")
    | sampled("headrace_processes", "_x9 2x2 0x48", instance="new", state="starting")
    | sampled(_PROCESS, "_x9 100 101x49", instance="new"),
    "a process that dies and is replaced": _BUSY
    | requests("0x10 12x50", "503", code="draining")
    | sampled("headrace_rescues_total", "_x10 150x50", status="pending")
    | sampled("headrace_repeated_rescues_total", "0x60")
    | sampled("headrace_streams_cut_total", "_x10 9x50", reason="fault")
    | sampled("headrace_ready", "1x10 0 1x49")
    | sampled("headrace_processes", "0x10 1 0x49", state="stale")
    | sampled("headrace_notices_connected_min", "1x10 0 1x49")
    | sampled("headrace_notices_connected_max", "1x60")
    | sampled("headrace_loop_lag_max_seconds", "0.01x10 4 0.01x49")
    | sampled(_PROCESS, "100x10 700x50")
    | sampled("up", "1x60"),
}
