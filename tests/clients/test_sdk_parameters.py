"""Every parameter that the Python SDK can send has an effect here, or is refused.

A release of the SDK with a new parameter fails this test: say what the server makes of it.
"""

import inspect
from collections.abc import Iterator

from langgraph_sdk._async.assistants import AssistantsClient
from langgraph_sdk._async.cron import CronClient
from langgraph_sdk._async.runs import RunsClient
from langgraph_sdk._async.store import StoreClient
from langgraph_sdk._async.threads import ThreadsClient

from headrace.runs.schemas import RunCreate

#: Never on the wire as a field: what each call may send besides, and what the client does itself.
_OF_THE_CLIENT = {
    "headers": "HTTP headers",
    "params": "HTTP query; parameters that nobody knows are ignored",
    "on_run_created": "called in the client with the ids of Content-Location",
    "raise_error": "the client raises what `__error__` says",
    "version": "the client's form of stream parts",
    "response_format": "the client's form of a page",
    "return_minimal": "Prefer: return=minimal, 204",
    "transport": "which transport threads.stream uses",
    "run_start_timeout": "the client waits",
}

_RUN = {
    "thread_id": "the path; another one in the body is refused",
    "assistant_id": "what is run",
    "input": "what the graph starts from",
    "command": "resume, update, goto; what says nothing is refused",
    "metadata": "the run's",
    "config": "checked; callbacks and run_id are refused",
    "context": "the graph's; what is missing is refused",
    "checkpoint": "where the run starts; one that is not there is 404",
    "checkpoint_id": "as checkpoint",
    "checkpoint_during": "durability by its old name; both and different is refused",
    "interrupt_before": "where the run stops; unknown nodes are refused",
    "interrupt_after": "as interrupt_before",
    "webhook": "who is told of the end; what is not public is refused",
    "multitask_strategy": "what becomes of other runs of the thread",
    "if_not_exists": "whether the thread is made; a run without a thread always makes one",
    "on_completion": "of a run without a thread; delete is refused with one",
    "after_seconds": "when the run starts",
    "langsmith_tracing": "refused: the server's own variables choose the project",
    "durability": "when checkpoints are written",
    "strict_resume": "a resume that does not answer what waits is refused",
}
_STREAM = {
    "stream_mode": "which events there are",
    "stream_subgraphs": "whether those of subgraphs too",
    "stream_resumable": "whether they have ids and are kept",
}
_DISCONNECT = {"on_disconnect": "what the client's leaving means; refused for the background"}
_PAGE = {"limit": "how many", "offset": "after how many"}
_ORDER = {"sort_by": "by what", "sort_order": "which way", "select": "which fields"}
_RUN_OF = {"thread_id": "whose", "run_id": "which"}
_ASSISTANT = {
    "graph_id": "its graph",
    "config": "checked as a run's; a checkpoint is refused",
    "context": "mirrored with configurable",
    "metadata": "its own",
    "name": "its own",
    "description": "its own",
}
_FILTER = {"metadata": "contained", "graph_id": "of a graph", "name": "a part of it"}
_CRON = {
    "assistant_id": "what is run",
    "schedule": "when; what is no schedule is refused",
    "timezone": "of the schedule; an unknown one is refused",
    "end_time": "the last moment of a slot; null removes it",
    "enabled": "whether it makes runs",
    **{
        name: _RUN[name]
        for name in (
            *("input", "metadata", "config", "context", "checkpoint_during", "interrupt_before"),
            *("interrupt_after", "webhook", "multitask_strategy", "durability"),
        )
    },
    **_STREAM,
}

TABLE: dict[str, dict[str, str]] = {
    "AssistantsClient.count": _FILTER,
    "AssistantsClient.create": {
        **_ASSISTANT,
        "assistant_id": "its id",
        "if_exists": "409, or the one that is there",
    },
    "AssistantsClient.delete": {"assistant_id": "which", "delete_threads": "its threads too"},
    "AssistantsClient.get": {"assistant_id": "which"},
    "AssistantsClient.get_graph": {"assistant_id": "which", "xray": "subgraphs, to a depth"},
    "AssistantsClient.get_schemas": {"assistant_id": "which"},
    "AssistantsClient.get_subgraphs": {
        "assistant_id": "which",
        "namespace": "one of them",
        "recurse": "those inside too",
    },
    "AssistantsClient.get_versions": {"assistant_id": "which", "metadata": "contained", **_PAGE},
    "AssistantsClient.search": {**_FILTER, **_PAGE, **_ORDER},
    "AssistantsClient.set_latest": {"assistant_id": "which", "version": "the one to use"},
    "AssistantsClient.update": {"assistant_id": "which", **_ASSISTANT},
    "ThreadsClient.copy": {"thread_id": "which"},
    "ThreadsClient.count": {"metadata": "contained", "values": "contained", "status": "is"},
    "ThreadsClient.create": {
        "metadata": "its own",
        "thread_id": "its id",
        "if_exists": "409, or the one that is there",
        "supersteps": "the states it starts with",
        "graph_id": "in its metadata",
        "ttl": "how long it is kept",
    },
    "ThreadsClient.delete": {"thread_id": "which"},
    "ThreadsClient.get": {"thread_id": "which", "include": "ttl; another word is refused"},
    "ThreadsClient.get_history": {
        "thread_id": "whose",
        "limit": "how many",
        "before": "from where",
        "metadata": "contained",
        "checkpoint": "of which subgraph, or this one alone",
        "select": "which fields",
    },
    "ThreadsClient.get_state": {
        "thread_id": "whose",
        "checkpoint": "where",
        "checkpoint_id": "where",
        "subgraphs": "their states too",
        "select": "which fields",
    },
    "ThreadsClient.join_stream": {
        "thread_id": "whose",
        "last_event_id": "after which event",
        "stream_mode": "which events",
    },
    "ThreadsClient.prune": {"thread_ids": "which", "strategy": "all, or but the latest"},
    "ThreadsClient.search": {
        "metadata": "contained",
        "values": "contained",
        "ids": "these",
        "status": "is",
        "extract": "values by path",
        **_PAGE,
        **_ORDER,
    },
    "ThreadsClient.stream": {
        "thread_id": "the path; it may name a thread that the first run makes",
        "assistant_id": "what its runs execute",
    },
    "ThreadsClient.update": {"thread_id": "which", "metadata": "merged", "ttl": "how long"},
    "ThreadsClient.update_state": {
        "thread_id": "whose",
        "values": "what the node is to have written",
        "as_node": "which node",
        "checkpoint": "from where; one that is not there is 404",
        "checkpoint_id": "as checkpoint; both and different is refused",
    },
    "RunsClient.cancel": {**_RUN_OF, "wait": "until it has stopped", "action": "kept, or undone"},
    "RunsClient.cancel_many": {
        "thread_id": "whose",
        "run_ids": "which",
        "status": "all of one",
        "action": "kept, or undone",
    },
    "RunsClient.create": {**_RUN, **_STREAM},
    "RunsClient.create_batch": {"payloads": "each as a run without a thread"},
    "RunsClient.delete": _RUN_OF,
    "RunsClient.get": _RUN_OF,
    "RunsClient.join": _RUN_OF,
    "RunsClient.join_stream": {
        **_RUN_OF,
        "cancel_on_disconnect": "what the client's leaving means",
        "stream_mode": "which events",
        "last_event_id": "after which event",
    },
    "CronClient.create": {**_CRON, "on_run_completed": "whether the threads of its runs stay"},
    "CronClient.create_for_thread": {**_CRON, "thread_id": "whose runs; it must exist"},
    "CronClient.update": {
        **{
            name: text
            for name, text in _CRON.items()
            if name not in ("assistant_id", "checkpoint_during", "multitask_strategy")
        },
        "cron_id": "which",
        "on_run_completed": "as in create",
    },
    "CronClient.delete": {"cron_id": "which"},
    "CronClient.search": {
        "assistant_id": "is",
        "thread_id": "is",
        "enabled": "is",
        "metadata": "contains",
        **_PAGE,
        **_ORDER,
    },
    "CronClient.count": {"assistant_id": "is", "thread_id": "is", "metadata": "contains"},
    "RunsClient.list": {
        "thread_id": "whose",
        "status": "is",
        "select": "which fields",
        **_PAGE,
    },
    "RunsClient.stream": {
        **_RUN,
        **_STREAM,
        **_DISCONNECT,
        "feedback_keys": "refused: there are no links of LangSmith",
    },
    "RunsClient.wait": {**_RUN, **_DISCONNECT},
    "StoreClient.delete_item": {"namespace": "where", "key": "which"},
    "StoreClient.get_item": {
        "namespace": "where",
        "key": "which",
        "refresh_ttl": "whether reading it makes it live longer",
    },
    "StoreClient.list_namespaces": {
        "prefix": "begin with",
        "suffix": "end with",
        "max_depth": "cut at",
        **_PAGE,
    },
    "StoreClient.put_item": {
        "namespace": "where",
        "key": "which",
        "value": "what",
        "index": "which texts are compared; refused without an index",
        "ttl": "how long",
    },
    "StoreClient.search_items": {
        "namespace_prefix": "below",
        "filter": "by key",
        "query": "closest first; refused without an index",
        "refresh_ttl": "whether reading them makes them live longer",
        **_PAGE,
    },
}


def methods() -> Iterator[tuple[str, set[str]]]:
    for client in (AssistantsClient, ThreadsClient, RunsClient, StoreClient, CronClient):
        for name, method in inspect.getmembers(client, inspect.isfunction):
            if not name.startswith("_"):
                given = set(inspect.signature(method).parameters) - {"self"}
                yield f"{client.__name__}.{name}", given


def test_every_parameter_has_an_effect_or_a_refusal():
    unknown = {
        f"{method}({parameter})"
        for method, parameters in methods()
        for parameter in parameters - TABLE.get(method, {}).keys() - _OF_THE_CLIENT.keys()
    }
    assert not unknown, "say in TABLE what the server makes of them"


def test_no_row_is_of_a_parameter_that_is_gone():
    there = dict(methods())
    gone = {
        f"{method}({parameter})"
        for method, rows in TABLE.items()
        for parameter in rows.keys() - there.get(method, set())
    }
    assert not gone


def test_every_field_of_a_run_is_one_that_the_server_reads():
    """By their names on the wire; ``langsmith_tracing`` has another there."""
    fields = {*_RUN, *_STREAM, *_DISCONNECT, "feedback_keys", "langsmith_tracer"}
    assert fields - {"langsmith_tracing"} <= RunCreate.model_fields.keys()
