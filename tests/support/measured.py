"""A process that has measured one of everything."""

from headrace.observability.figures import (
    Figures,
    FlushFigures,
    GateFigures,
    PoolFigures,
    QueueFigures,
    UnservedGraph,
    WriterFigures,
)
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.thread_pool import ThreadFigures

POOL = PoolFigures(size=3, available=1, in_use=2, waiting=4, max_size=5, leaked=0)
WRITER = WriterFigures(operations=11, bytes=1200, waiting=1)
FLUSH = FlushFigures(
    operations=9,
    bytes=900,
    queue_seconds=0.001,
    pool_seconds=0.0002,
    database_seconds=0.003,
    outcome="committed",
)
FIGURES = Figures(
    pool=POOL,
    writer=WRITER,
    queue=QueueFigures(
        pending=4,
        oldest_ready_seconds=1.5,
        unserved=(UnservedGraph(graph_id="gone", pending=2, oldest_ready_seconds=40.0),),
    ),
    gates={"lists": GateFigures(held=3, waiting=5)},
    runs_running=6,
    deaf_runs=1,
    threads=ThreadFigures(busy=5, most=9),
    runs_watched=2,
    threads_watched=3,
    notices_connected=True,
    loop_lag_seconds=0.25,
    rss_bytes=7000,
    open_fds=8,
    gc_collections=(30, 20, 10),
)


def board_with(figures: Figures = FIGURES) -> StatusBoard:
    """The board of a process that stands alone."""
    board = StatusBoard(None, stale_seconds=5.0)
    board.publish(figures)
    board.set_state("serving")
    return board


def observe_one_of_each(metrics: Metrics) -> None:
    """One HTTP request, run, checkpoint, flush, store operation, failed checkout, stored event,
    cut client, notice and fault."""
    metrics.http.observe_request("GET", "/threads/{thread_id}", 200, 0.02)
    metrics.runs.count_claim()
    metrics.runs.count_rescue("pending")
    metrics.runs.count_run_apart()
    metrics.runs.count_lease_loss()
    metrics.runs.count_drained("released")
    metrics.runs.observe_run("agent", "success", 0.3)
    metrics.checkpoints.observe_checkpoint("put", 0.004)
    metrics.checkpoints.observe_flush(FLUSH)
    metrics.checkpoints.observe_store("batch", 0.006)
    metrics.database.observe_checkout(0.002, False)
    metrics.database.observe_checkout(5.0, True)
    metrics.runs.count_stored_events(3)
    metrics.retention.count_expired_items(2)
    metrics.retention.count_expired_threads("deleted", 2)
    metrics.retention.count_expired_runs(2)
    metrics.checkpoints.count_blocked_type()
    metrics.http.count_cut_client("stalled")
    metrics.http.count_cut_connection("refused")
    metrics.runs.count_notice("sent")
    metrics.http.count_keyed_request("made")
    metrics.http.count_bounded_answer("shortened")
    metrics.http.count_gate_refusal("lists", "timeout")
    metrics.runs.count_refused_run("too_many_queued_runs")
    metrics.http.count_refused_body("no_room")
    metrics.usage.observe_call("gpt-5", "success", 1.5)
    metrics.usage.count_tokens("gpt-5", "input", 20)
    metrics.usage.count_exceeded("run")
    metrics.process.count_loop_stall()
    metrics.process.record_fault("a-task", ValueError("asked to fail"))
