"""A process that has measured one of everything."""

import gc

from headrace.observability.figures import (
    DatabaseFigures,
    Figures,
    FlushFigures,
    GateFigures,
    PoolFigures,
    QueueFigures,
    TableFigures,
    UnservedGraph,
    WriterFigures,
)
from headrace.observability.health_gauges import PodFacts
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.thread_pool import ThreadFigures

POOL = PoolFigures(size=4, available=1, in_use=2, waiting=4, max_size=5, leaked=0, checking=1)
WRITER = WriterFigures(operations=11, bytes=1200, waiting=1)
FLUSH = FlushFigures(
    operations=9,
    bytes=900,
    queue_seconds=0.001,
    pool_seconds=0.0002,
    database_seconds=0.003,
    outcome="committed",
)
TABLE = TableFigures(
    name="checkpoints",
    rows=100,
    dead_rows=7,
    bytes=81920,
    sequential_scans=3,
    sequential_rows=300,
    updates=20,
    hot_updates=18,
    since_vacuum_seconds=60.5,
    vacuumed=True,
)
FIGURES = Figures(
    pool=POOL,
    writer=WRITER,
    queue=QueueFigures(
        pending=4,
        oldest_ready_seconds=1.5,
        unserved=(UnservedGraph(graph_id="gone", pending=2, oldest_ready_seconds=40.0),),
    ),
    database=DatabaseFigures(
        tables=(TABLE,),
        oldest_transaction_seconds=2.5,
        largest_thread_bytes=4096,
        credentials={"password": 3600.0},
    ),
    lease_left_seconds=8.5,
    gates={"lists": GateFigures(held=3, waiting=5)},
    runs_running=6,
    oldest_running_seconds=12.5,
    deaf_runs=1,
    threads=ThreadFigures(busy=5, most=9),
    runs_watched=2,
    threads_watched=3,
    notices_connected=True,
    requests_in_flight=7,
    streams_open=4,
    loop_lag_seconds=0.25,
    rss_bytes=7000,
    open_fds=8,
    gc_collections=(30, 20, 10),
)
FACTS = PodFacts(
    ready=True,
    database_reachable=True,
    schema_fit=True,
    build={"version": "1.2.3", "python": "3.12.1", "langgraph": "1.0.0", "schema": "0014_a"},
)


def board_with(figures: Figures = FIGURES) -> StatusBoard:
    """The board of a process that stands alone."""
    board = StatusBoard(None, stale_seconds=5.0)
    board.publish(figures)
    board.set_state("serving")
    return board


def observe_one_of_each(metrics: Metrics) -> None:
    """One HTTP request, run, checkpoint, flush, store operation, failed checkout, stored event,
    cut client, notice and fault; the traffic of one run."""
    metrics.http.observe_request(
        "GET", "/threads/{thread_id}", 200, 0.02, first_byte_seconds=0.01, body_bytes=250
    )
    metrics.http.count_cut_stream("drain")
    metrics.http.count_dropped_line()
    metrics.note_facts(FACTS)
    metrics.runs.count_claim()
    metrics.runs.count_rescue("pending", "exit")
    metrics.runs.count_run_apart()
    metrics.runs.count_lease_loss()
    metrics.runs.count_drained("at_boundary")
    metrics.runs.observe_run("agent", "success", 0.3)
    metrics.runs.count_error("agent", "graph")
    metrics.runs.count_cancel("client")
    metrics.runs.count_rescue("pending", "lease", again=True)
    metrics.attempts.count_attempt("in_place")
    metrics.attempts.observe_queue("agent", 0.002)
    metrics.attempts.observe_first_event("agent", 0.01)
    metrics.attempts.observe_node("agent", "reply", 0.2)
    metrics.attempts.count_steps("agent", 3)
    metrics.attempts.count_repeated_node("agent")
    metrics.attempts.count_slow_node("agent")
    metrics.crons.count_due(2)
    metrics.crons.observe_fired(0.2)
    metrics.crons.count_unfired("taken")
    metrics.checkpoints.observe_checkpoint("put", 0.004)
    metrics.checkpoints.observe_commit("put", 1.6, 500)
    metrics.checkpoints.count_slow_checkpoint()
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
    metrics.process.count_notice("sent")
    metrics.http.count_keyed_request("made")
    metrics.http.count_bounded_answer("shortened")
    metrics.http.count_gate_refusal("lists", "timeout")
    metrics.runs.count_refused_run("too_many_queued_runs")
    metrics.http.count_refused_body("no_room")
    metrics.database.count_traffic(14, 2)
    gc.collect()
    metrics.process.count_collections()
    metrics.traces.count_spans("exported", 12)
    metrics.usage.observe_call("gpt-5", "success", 1.5)
    metrics.usage.count_tokens("gpt-5", "input", 20)
    metrics.usage.count_exceeded("run")
    metrics.process.count_loop_stall()
    metrics.process.record_fault("a-task", ValueError("asked to fail"))
