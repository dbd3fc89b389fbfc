"""The configuration and the input of a graph, from the kwargs that are stored with its run.

The ids of the run are in ``configurable`` and in ``metadata``, as on LangGraph's server. The keys
of the client win, except the keys that name the run, its thread, assistant and graph, its caller
(``user_id``, ``langgraph_auth_user``) or its request. A caller that nobody knows may name a user.
"""

from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from headrace.auth.principal import Principal
from headrace.auth.run_callers import without_forged_caller
from headrace.auth.user import user_of
from headrace.checkpoints.scoped_store import RunStore
from headrace.graphs.commands import graph_command
from headrace.graphs.injected_runtime import runtime_for_run


def graph_config(
    kwargs: dict[str, Any],
    *,
    run_id: UUID,
    thread_id: str,
    assistant_id: UUID,
    graph_id: str,
    principal: Principal,
    metadata: dict[str, Any],
    request_id: str,
    recursion_limit: int,
) -> RunnableConfig:
    """The configuration of one execution of a graph."""
    stored = kwargs["config"]
    identity = "" if principal.is_anonymous else principal.identity
    configurable = {
        "user_id": identity,
        "checkpoint_ns": "",
        **without_forged_caller(stored["configurable"], principal),
        "run_id": str(run_id),
        "thread_id": thread_id,
        "graph_id": graph_id,
        "assistant_id": str(assistant_id),
        "langgraph_auth_user_id": identity,
        "langgraph_request_id": request_id,
        **_user(principal),
    }
    config: dict[str, Any] = {
        "recursion_limit": recursion_limit,
        **stored,
        "run_id": run_id,
        "configurable": configurable,
        "metadata": {**stored.get("metadata", {}), **metadata, "run_id": str(run_id)},
    }
    return cast("RunnableConfig", config)


def _user(principal: Principal) -> dict[str, Any]:
    """Who calls. No caller can say it of itself."""
    if principal.is_anonymous:
        return {}
    return {
        "user_id": principal.identity,
        "langgraph_auth_user": user_of(principal),
        "langgraph_auth_permissions": list(principal.permissions),
    }


def with_store(config: RunnableConfig, store: Any) -> RunnableConfig:
    """The configuration for a graph that sees a scope of the store, also in its own threads."""
    if not isinstance(store, RunStore) or store.scope is None:
        return config
    wiring = runtime_for_run(store.of(store.scope))
    return cast("RunnableConfig", {**config, "configurable": {**config["configurable"], **wiring}})


def checkpoints_in(config: RunnableConfig) -> list[RunnableConfig]:
    """The checkpoints that a configuration names: that of the thread, and those of subgraphs."""
    configurable = config["configurable"]
    named = dict(configurable.get("checkpoint_map") or {})
    if configurable.get("checkpoint_id"):
        named[configurable.get("checkpoint_ns") or ""] = configurable["checkpoint_id"]
    return [
        {
            "configurable": {
                "thread_id": configurable["thread_id"],
                "checkpoint_ns": namespace,
                "checkpoint_id": checkpoint_id,
            }
        }
        for namespace, checkpoint_id in named.items()
    ]


def use_latest_checkpoint(config: RunnableConfig) -> None:
    """Let the graph use the thread's latest checkpoint, not one that the request named."""
    config["configurable"].pop("checkpoint_id", None)
    config["configurable"].pop("checkpoint_map", None)
    config["configurable"]["checkpoint_ns"] = ""


def graph_input(kwargs: dict[str, Any]) -> Any:
    """The input of one execution; a command wins over an input."""
    command = kwargs["command"]
    if command:
        return graph_command(
            resume=command.get("resume"), update=command.get("update"), goto=command.get("goto")
        )
    return kwargs["input"]
