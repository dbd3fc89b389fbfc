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


def gauge(metric: str, samples: str, **labels: str) -> World:
    return {series(metric, **labels): samples}


TABLE = {"table": "runs"}

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
        | gauge("headrace_streams_cut_total", "0+8x60 480x420", reason="fault"),
        fires_at=30,
        ends_at=100,
        silent=(
            requests("0+1000x480") | requests("0+5x480", "500"),
            requests("0+1000x480")
            | gauge("headrace_streams_cut_total", "0+80x480", reason="client_left"),
        ),
    ),
    "HeadraceFirstEventSlow": Case(
        fires=histogram(
            "headrace_run_first_event_seconds",
            {"10": "0+90x30 2700x30", "30": "0+100x30 3000x30", "+Inf": "0+100x30 3000x30"},
            graph="chat",
        ),
        fires_at=15,
        ends_at=45,
        silent=(
            histogram(
                "headrace_run_first_event_seconds",
                {"10": "0+96x60", "30": "0+100x60", "+Inf": "0+100x60"},
                graph="chat",
            ),
            histogram(
                "headrace_run_first_event_seconds",
                {"10": "0x20 1x40", "30": "0x20 5x40", "+Inf": "0x20 5x40"},
                graph="chat",
            ),
        ),
    ),
    "HeadraceQueueOld": Case(
        fires=gauge("headrace_oldest_ready_seconds", "61x10 0x20"),
        fires_at=3,
        ends_at=12,
        silent=(
            gauge("headrace_oldest_ready_seconds", "60x60"),
            gauge("headrace_oldest_ready_seconds", "0 90 0 90 0 90 0"),
        ),
    ),
    "HeadraceRunsUnserved": Case(
        fires=gauge("headrace_runs_unserved", "3x10 0x20", graph="gone"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(gauge("headrace_runs_unserved", "3x4 0x60", graph="gone"),),
    ),
    "HeadraceRunsFail": Case(
        fires=gauge("headrace_runs_total", "0+100x60", graph="chat", status="success")
        | gauge("headrace_run_errors_total", "0+5x20 100x40", graph="chat", cause="platform"),
        fires_at=6,
        ends_at=35,
        silent=(
            gauge("headrace_runs_total", "0+100x60", graph="chat", status="success")
            | gauge("headrace_run_errors_total", "0+2x60", graph="chat", cause="lost"),
            gauge("headrace_runs_total", "0+100x60", graph="chat", status="success")
            | gauge("headrace_run_errors_total", "0+50x60", graph="chat", cause="graph"),
        ),
    ),
    "HeadraceGraphFails": Case(
        fires=gauge("headrace_runs_total", "0+10x80", graph="chat", status="error")
        | gauge("headrace_run_errors_total", "0+6x30 180x50", graph="chat", cause="graph"),
        fires_at=15,
        ends_at=50,
        silent=(
            gauge("headrace_runs_total", "0+10x80", graph="chat", status="error")
            | gauge("headrace_run_errors_total", "0+5x80", graph="chat", cause="graph"),
            gauge("headrace_runs_total", "0x20 0+1x9 9x50", graph="chat", status="error")
            | gauge("headrace_run_errors_total", "0x20 0+1x9 9x50", graph="chat", cause="graph"),
        ),
    ),
    "HeadraceLeaseLost": Case(
        fires=gauge("headrace_lease_losses_total", "0x5 1x60"),
        fires_at=6,
        ends_at=25,
        silent=(gauge("headrace_lease_losses_total", "4x60"),),
    ),
    "HeadraceRescueStorm": Case(
        fires=gauge("headrace_rescues_total", "0+1x12 12x60", status="pending"),
        fires_at=10,
        ends_at=40,
        silent_at=2,
        silent=(
            # One process with two hundred runs; and three processes within twenty minutes.
            gauge("headrace_rescues_total", "0x5 200x60", status="pending"),
            gauge("headrace_rescues_total", "0x4 9x5 20x5 30x50", status="pending"),
        ),
    ),
    "HeadracePoisonRun": Case(
        fires=gauge("headrace_repeated_rescues_total", "0x5 1x60"),
        fires_at=6,
        ends_at=25,
        silent=(
            gauge("headrace_repeated_rescues_total", "2x60")
            | gauge("headrace_rescues_total", "0x5 200x60", status="pending"),
        ),
    ),
    "HeadraceStreamsCut": Case(
        fires=gauge("headrace_streams_cut_total", "_x5 11x60", reason="slow_client"),
        fires_at=9,
        ends_at=25,
        silent_at=6,
        silent=(
            gauge("headrace_streams_cut_total", "0x5 0+1x9 9x60", reason="fault"),
            gauge("headrace_streams_cut_total", "_x5 10x60", reason="slow_client"),
            gauge("headrace_streams_cut_total", "0+50x60", reason="client_left")
            | gauge("headrace_streams_cut_total", "0+50x60", reason="drain"),
        ),
    ),
    "HeadraceDatabaseUnreachable": Case(
        fires=gauge("headrace_database_reachable", "1x3 0x5 1x20")
        | gauge("headrace_database_reachable", "1x30", instance="b"),
        fires_at=6,
        ends_at=11,
        silent_at=4,
        silent=(gauge("headrace_database_reachable", "1 1 0 1 1 1 0 1"),),
    ),
    "HeadraceSchemaMismatch": Case(
        fires=gauge("headrace_schema_fit", "0x8 1x20"),
        fires_at=6,
        ends_at=10,
        silent_at=4,
        silent=(gauge("headrace_schema_fit", "1x5 0x4 1x60"),),
    ),
    "HeadracePoolSaturated": Case(
        fires=gauge("headrace_pool_waiting_max", "4x15 0x20")
        | gauge("headrace_pool_timeouts_total", "0x5 0+7x10 70x20")
        | gauge("headrace_database_reachable", "1x40"),
        fires_at=8,
        ends_at=22,
        silent_at=2,
        silent=(
            gauge("headrace_pool_waiting_max", "0 9 0 9 0 9 0 9 0 9 0 9 0 9 0 9"),
            # The database is away: another alert tells that.
            gauge("headrace_pool_waiting_max", "4x15 0x20")
            | gauge("headrace_pool_timeouts_total", "0+7x40")
            | gauge("headrace_database_reachable", "0x40"),
        ),
    ),
    "HeadraceConnectionsLeak": Case(
        fires=gauge("headrace_pool_leaked_max", "1x20 0x20"),
        fires_at=11,
        ends_at=25,
        silent=(gauge("headrace_pool_leaked_max", "1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0"),),
    ),
    "HeadraceCheckpointsSlow": Case(
        fires=histogram(
            "headrace_checkpoint_commit_seconds",
            {"0.5": "0+98x30 2940x30", "1": "0+100x30 3000x30", "+Inf": "0+100x30 3000x30"},
            operation="put",
        ),
        fires_at=15,
        ends_at=45,
        silent=(
            histogram(
                "headrace_checkpoint_commit_seconds",
                {"0.5": "0+995x60", "1": "0+1000x60", "+Inf": "0+1000x60"},
                operation="put",
            ),
            histogram(
                "headrace_checkpoint_commit_seconds",
                {"0.5": "0+1x60", "1": "0+9x60", "+Inf": "0+9x60"},
                operation="put",
            ),
        ),
    ),
    "HeadraceListenerDown": Case(
        fires=gauge("headrace_notices_connected_min", "1x5 0x10 1x20")
        | gauge("headrace_notices_connected_max", "1x40"),
        fires_at=12,
        ends_at=18,
        silent_at=8,
        silent=(
            # Behind a pooler there is never one.
            gauge("headrace_notices_connected_min", "0x60")
            | gauge("headrace_notices_connected_max", "0x60"),
        ),
    ),
    "HeadraceTableBloated": Case(
        fires=gauge("headrace_table_dead_rows", "30000x40 0x20", **TABLE)
        | gauge("headrace_table_rows", "20000x60", **TABLE),
        fires_at=32,
        ends_at=43,
        silent_at=28,
        silent=(
            gauge("headrace_table_dead_rows", "19000x60", **TABLE)
            | gauge("headrace_table_rows", "20000x60", **TABLE),
            gauge("headrace_table_dead_rows", "9000x60", **TABLE)
            | gauge("headrace_table_rows", "10x60", **TABLE),
        ),
    ),
    "HeadraceVacuumOverdue": Case(
        fires=gauge("headrace_table_dead_rows", "9000x40 0x20", **TABLE)
        | gauge("headrace_table_rows", "20000x60", **TABLE)
        | gauge("headrace_table_since_vacuum_seconds", "90000x60", **TABLE),
        fires_at=32,
        ends_at=43,
        silent_at=28,
        silent=(
            gauge("headrace_table_dead_rows", "9000x60", **TABLE)
            | gauge("headrace_table_rows", "20000x60", **TABLE)
            | gauge("headrace_table_since_vacuum_seconds", "86000x60", **TABLE),
            gauge("headrace_table_dead_rows", "6000x60", **TABLE)
            | gauge("headrace_table_rows", "20000x60", **TABLE)
            | gauge("headrace_table_since_vacuum_seconds", "900000x60", **TABLE),
        ),
    ),
    "HeadraceSequentialScans": Case(
        fires=gauge("headrace_table_sequential_scans_total", "0+12x40 480x40", **TABLE)
        | gauge("headrace_table_rows", "20000x80", **TABLE),
        fires_at=30,
        ends_at=60,
        silent=(
            gauge("headrace_table_sequential_scans_total", "0+5x80", **TABLE)
            | gauge("headrace_table_rows", "20000x80", **TABLE),
            gauge("headrace_table_sequential_scans_total", "0+600x80", **TABLE)
            | gauge("headrace_table_rows", "10000x80", **TABLE),
        ),
    ),
    "HeadraceOldTransaction": Case(
        fires=gauge("headrace_oldest_transaction_seconds", "0+60x40 0x20"),
        fires_at=38,
        ends_at=42,
        silent_at=33,
        silent=(gauge("headrace_oldest_transaction_seconds", "0+60x30 0x30"),),
    ),
    "HeadraceThreadLarge": Case(
        fires=gauge("headrace_largest_thread_bytes", "0x5 1073741825 0x60"),
        fires_at=10,
        ends_at=40,
        silent=(gauge("headrace_largest_thread_bytes", "1073741824x60"),),
    ),
    "HeadraceCredentialExpires": Case(
        fires=gauge("headrace_credential_expires_seconds", "1209599x10 9000000x20", **{}),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(gauge("headrace_credential_expires_seconds", "1209600x60"),),
    ),
    "HeadraceCredentialExpiresNow": Case(
        fires=gauge("headrace_credential_expires_seconds", "86399x10 9000000x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(gauge("headrace_credential_expires_seconds", "86400x60"),),
    ),
    "HeadraceNoPodReady": Case(
        fires=gauge("headrace_ready", "0x6 1x20") | gauge("headrace_ready", "0x26", instance="b"),
        fires_at=3,
        ends_at=8,
        silent=(gauge("headrace_ready", "0x60") | gauge("headrace_ready", "1x60", instance="b"),),
    ),
    "HeadracePodNotReady": Case(
        fires=gauge("headrace_ready", "0x15 1x20")
        | gauge("headrace_processes", "0x40", state="draining"),
        fires_at=11,
        ends_at=17,
        silent_at=9,
        silent=(
            gauge("headrace_ready", "0x60") | gauge("headrace_processes", "2x60", state="draining"),
            gauge("headrace_ready", "0x9 1x60"),
        ),
    ),
    "HeadraceProcessSilent": Case(
        fires=gauge("headrace_processes", "0 1 1 1 0x20", state="stale"),
        fires_at=3,
        ends_at=5,
        silent=(gauge("headrace_processes", "2x60", state="serving"),),
    ),
    "HeadraceProcessesRestart": Case(
        fires=gauge("headrace_process_start_time_max_seconds", "1 2 3 4 5x60"),
        fires_at=5,
        ends_at=25,
        silent=(gauge("headrace_process_start_time_max_seconds", "1 2 3 4x60"),),
    ),
    "HeadraceLoopLag": Case(
        fires=gauge("headrace_loop_lag_max_seconds", "0.6x10 0x20"),
        fires_at=6,
        ends_at=12,
        silent=(
            gauge("headrace_loop_lag_max_seconds", "0.5x60"),
            gauge("headrace_loop_lag_max_seconds", "0.1 3 0.1 3 0.1 3 0.1 3 0.1 3 0.1 3"),
        ),
    ),
    "HeadraceBackgroundFaults": Case(
        fires=gauge("headrace_background_faults_total", "_x5 1x60", task="rescuer"),
        fires_at=7,
        ends_at=25,
        # Where it fires from the first sample on, that sample is its first.
        silent=({"up": "1x60"},),
    ),
    "HeadraceMetricsDirectoryFull": Case(
        fires=gauge("headrace_metrics_directory_free_bytes", "16777215x10 67108864x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(gauge("headrace_metrics_directory_free_bytes", "16777216x60"),),
    ),
    "HeadraceScrapeFails": Case(
        fires=gauge("up", "0x10 1x20"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(gauge("up", "0x60", job="other"), gauge("up", "0x4 1x60")),
    ),
    "HeadraceGone": Case(
        fires=gauge("up", "0x10 1x20") | gauge("up", "1x60", job="other"),
        fires_at=6,
        ends_at=12,
        silent_at=4,
        silent=(gauge("up", "0x60") | gauge("up", "1x60", instance="b"),),
    ),
}

_BUSY = requests("0+1000x60") | gauge("headrace_database_reachable", "1x60", instance="c")
_PROCESS = "headrace_process_start_time_max_seconds"

#: What happens every day: no alert may fire.
EVERYDAY: dict[str, World] = {
    "a rolling deploy of two pods": _BUSY
    | gauge("up", "1x12 stale", instance="old")
    | gauge("headrace_ready", "1x10 0x2 stale", instance="old")
    | gauge("headrace_processes", "0x10 2x2 stale", instance="old", state="draining")
    | gauge("headrace_notices_connected_min", "1x10 0x2 stale", instance="old")
    | gauge("headrace_notices_connected_max", "1x12 stale", instance="old")
    | gauge("headrace_schema_fit", "1x10 0x2 stale", instance="old")
    | gauge("headrace_drained_runs_total", "0x10 5x2 stale", instance="old", outcome="released")
    | gauge("headrace_streams_cut_total", "0x10 40x2 stale", instance="old", reason="drain")
    | gauge("headrace_runs_unserved", "0x8 4x4 0x48", graph="new")
    | gauge("up", "_x8 0 1x50", instance="new")
    | gauge("headrace_ready", "_x9 0x2 1x48", instance="new")
    | gauge("headrace_database_reachable", "_x9 0 1x49", instance="new")
    | gauge("headrace_notices_connected_min", "_x9 0 1x49", instance="new")
    | gauge("headrace_notices_connected_max", "_x9 0 1x49", instance="new")
    | gauge("headrace_processes", "_x9 2x2 0x48", instance="new", state="starting")
    | gauge(_PROCESS, "_x9 100 101x49", instance="new"),
    "a process that dies and is replaced": _BUSY
    | requests("0x10 12x50", "503", code="draining")
    | gauge("headrace_rescues_total", "_x10 150x50", status="pending")
    | gauge("headrace_repeated_rescues_total", "0x60")
    | gauge("headrace_streams_cut_total", "_x10 9x50", reason="fault")
    | gauge("headrace_ready", "1x10 0 1x49")
    | gauge("headrace_processes", "0x10 1 0x49", state="stale")
    | gauge("headrace_notices_connected_min", "1x10 0 1x49")
    | gauge("headrace_notices_connected_max", "1x60")
    | gauge("headrace_loop_lag_max_seconds", "0.01x10 4 0.01x49")
    | gauge(_PROCESS, "100x10 700x50")
    | gauge("up", "1x60"),
}
