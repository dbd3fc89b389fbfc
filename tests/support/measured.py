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
    metrics.observe_http("GET", "/threads/{thread_id}", 200, 0.02)
    metrics.count_claim()
    metrics.count_rescue("pending")
    metrics.count_run_apart()
    metrics.count_lease_loss()
    metrics.count_drained("released")
    metrics.observe_run("agent", "success", 0.3)
    metrics.observe_checkpoint("put", 0.004)
    metrics.observe_flush(FLUSH)
    metrics.observe_store("batch", 0.006)
    metrics.observe_checkout(0.002, False)
    metrics.observe_checkout(5.0, True)
    metrics.count_stored_events(3)
    metrics.count_expired_items(2)
    metrics.count_expired_threads("deleted", 2)
    metrics.count_expired_runs(2)
    metrics.count_blocked_type()
    metrics.count_cut_client("stalled")
    metrics.count_cut_connection("refused")
    metrics.count_notice("sent")
    metrics.count_keyed_request("made")
    metrics.count_bounded_answer("shortened")
    metrics.count_gate_refusal("lists", "timeout")
    metrics.count_refused_run("too_many_queued_runs")
    metrics.count_refused_body("no_room")
    metrics.count_loop_stall()
    metrics.record_fault("a-task", ValueError("asked to fail"))
