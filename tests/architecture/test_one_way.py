"""Calls go one way: an object is given what is below it, and no function of what is above it.

docs/adr/0017-calls-go-one-way.md has the reasons for the exceptions.
"""

import ast

from tests.support.sources import modules

#: What a parameter may be called with that leads up.
ABOVE = {
    "edge/streaming.py StreamBody on_disconnect",
    "edge/streaming.py StreamResponse on_disconnect",
    "events/channel.py Channel is_watched",
    "events/channel.py Channel on_closed",
    "events/channel.py Channel on_lost",
    "events/channel.py Channel on_stored",
    "events/channel.py Channel read_stored",
    "events/channel.py Channel store",
    "events/reader.py ChannelReader read_stored",
    "lifecycle.py Supervision on_fault",
    "notices/notifier.py Listeners on_any",
    "notices/notifier.py Listeners on_crons",
    "notices/notifier.py Listeners on_queue",
    "notices/notifier.py Listeners on_run",
    "server/uvicorn.py ReportingLifespan on_refusal",
    "server/uvicorn.py Server on_refusal",
    "server/uvicorn.py Server on_shutdown",
}

#: Functions of metrics, which are below: they count or observe, and call nobody.
COUNTS = {
    "auth/handlers.py Handlers count",
    "auth/identity.py Identity count",
    "auth/issuer_keys.py FetchedKeys count",
    "checkpoints/answer_memory.py AnswerMemory count",
    "checkpoints/flush.py Flusher on_flush",
    "checkpoints/saver.py GroupCommitSaver observe",
    "checkpoints/store.py Store observe",
    "checkpoints/store_sweeper.py StoreSweeper count",
    "checkpoints/upstream_saver.py UpstreamSaver observe",
    "checkpoints/writer.py Writer on_flush",
    "db/pool.py SharedPool on_checkout",
    "db/silence.py Silence count",
    "edge/body_memory.py BodyMemory count_refused",
    "edge/gates.py RequestGates count",
    "edge/turns.py Refusals count",
    "events/reader_buffers.py BufferBudget on_cut",
    "events/reader_buffers.py ReaderBuffer on_cut",
    "idempotency/service.py IdempotencyService count",
    "notices/notifier.py PostgresNotifier count",
    "queue/claimer.py Claimer count_unreadable",
    "queue/queue.py Queue count_unreadable",
    "runs/retention.py RunSweeper count",
    "threads/removal.py ThreadRemoval count_runs",
    "threads/retention.py RetentionSweeper count",
    "tracing/exporter.py CountedBatches count",
    "tracing/exporter.py CountedExporter count",
}

#: Functions of a module in the same room, or of a framework that asks for one.
OWN = {
    "auth/identity.py Identity handler",
    "checkpoints/indexed_puts.py IndexedPuts add",
    "db/iam_tokens.py IamTokens make",
    "checkpoints/lanes.py Lanes on_settled",
    "checkpoints/run_writes.py RunWrites hurry",
    "checkpoints/store.py _Batches answer",
    "containment.py _TaskFactory inner",
    "edge/routing.py HeadraceRoute endpoint",
    "edge/routing.py OwnRoute endpoint",
    "graphs/messages.py MessagesChannel reducer",
    "observability/exposition.py Exposition collect",
    "observability/latency.py LatencyWindow clock",
    "server/custom_app.py KeyGuard needs",
    "server/listener.py SharedListener make_protocol",
    "threads/listing.py _ValuesOfThread read_values",
    "webhooks/calls.py Sender lookup",
    "webhooks/connections.py CheckedBackend lookup",
}


def is_kind_of_function(kind: ast.ClassDef) -> bool:
    """Whether it is a protocol of functions."""
    methods = {
        one.name for one in kind.body if isinstance(one, ast.AsyncFunctionDef | ast.FunctionDef)
    }
    return "Protocol" in map(ast.unparse, kind.bases) and "__call__" in methods


def names_of_functions() -> set[str]:
    """``Callable``, and the names that the package gives to kinds of functions."""
    names = {"Callable"}
    for tree in modules().values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
                if ast.unparse(node.value.value) == "Callable":
                    names |= {one.id for one in node.targets if isinstance(one, ast.Name)}
            elif isinstance(node, ast.ClassDef) and is_kind_of_function(node):
                names.add(node.name)
    return names


def callback_parameters() -> set[str]:
    """Each function that an object is made with, or that is added to it."""
    kinds = names_of_functions()
    return {
        f"{module.removeprefix('src/headrace/')} {owner.name} {parameter.arg}"
        for module, tree in modules().items()
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for method in owner.body
        if isinstance(method, ast.FunctionDef) and method.name in ("__init__", "add")
        for parameter in (*method.args.args, *method.args.kwonlyargs)
        if parameter.annotation is not None
        and kinds & {one.id for one in ast.walk(parameter.annotation) if isinstance(one, ast.Name)}
    }


def test_no_object_is_handed_a_function_of_what_is_above_it() -> None:
    assert callback_parameters() == ABOVE | COUNTS | OWN
