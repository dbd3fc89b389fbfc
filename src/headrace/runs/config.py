"""What a graph gets to see as its configuration, from assistant, request and run.

Ids stand in ``configurable`` and in ``metadata`` (shared API reference, section 2.5); the caller's
own keys win where they do not name the run itself.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from headrace.auth.principal import ANONYMOUS, Principal
from headrace.db.tables import AssistantRow
from headrace.errors import BadRequest, InvalidRequest
from headrace.graphs.commands import graph_command
from headrace.runs.schemas import Command, RunCreate

_CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")


def wanted_checkpoint(body: RunCreate) -> str | None:
    """The checkpoint of the thread to start from, where the caller names one."""
    given = body.checkpoint or {}
    if given.get("checkpoint_ns"):
        return None
    checkpoint_id = body.checkpoint_id or given.get("checkpoint_id")
    return checkpoint_id if isinstance(checkpoint_id, str) else None


def run_kwargs(
    assistant: AssistantRow,
    body: RunCreate,
    *,
    temporary: bool,
    at_head: bool = False,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What is stored with the run; enough to execute it.

    :param headers: of the request, what the graph is to see. They stand above the body: a proxy in
        front may have set them, whom no caller is to contradict.
    :param at_head: the checkpoint that the body names is the thread's last one. Clients send that
        with every message; for LangGraph it would be a step back in time.

    :raises BadRequest: both configurable and context.
    :raises InvalidRequest: malformed configuration.
    """
    own = body.config or {}
    configurable = own.get("configurable") or {}
    if not isinstance(configurable, dict):
        raise InvalidRequest("config.configurable must be an object.")
    if configurable and body.context:
        raise BadRequest(
            "Cannot specify both config.configurable and context. Send context alone: it takes the"
            " place of configurable since LangGraph 0.6."
        )
    merged = {**assistant.config, **own}
    # Two names of one thing: graphs of either kind find in theirs what came under the other.
    given = configurable or body.context or {}
    inherited = assistant.config.get("configurable") or {}
    merged["configurable"] = {
        # Double-underscored keys are LangGraph's own wiring; no caller may reach it.
        **{key: value for key, value in (inherited | given).items() if not key.startswith("__")},
        **headers,
        **({} if at_head else _checkpoint(body)),
    }
    durability = body.durability or ("exit" if body.checkpoint_during is False else "async")
    return {
        "input": body.input,
        "command": body.command.model_dump(exclude_none=True) if body.command else None,
        "config": merged,
        "context": (assistant.context or {}) | given,
        "stream_mode": list(body.stream_mode),
        "interrupt_before": body.interrupt_before,
        "interrupt_after": body.interrupt_after,
        "temporary": temporary,
        "subgraphs": body.stream_subgraphs,
        "resumable": body.stream_resumable,
        "durability": durability,
    }


def _checkpoint(body: RunCreate) -> dict[str, Any]:
    given = {
        key: value
        for key, value in (body.checkpoint or {}).items()
        if key in _CHECKPOINT_KEYS and value is not None
    }
    if body.checkpoint_id:
        given["checkpoint_id"] = body.checkpoint_id
    return given


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
    """The configuration of one execution."""
    stored = kwargs["config"]
    identity = "" if principal == ANONYMOUS else principal.identity
    configurable = {
        "user_id": identity,
        "checkpoint_ns": "",
        **stored["configurable"],
        "run_id": str(run_id),
        "thread_id": thread_id,
        "graph_id": graph_id,
        "assistant_id": str(assistant_id),
        "langgraph_auth_user_id": identity,
        "langgraph_request_id": request_id,
    }
    config: dict[str, Any] = {
        "recursion_limit": recursion_limit,
        **stored,
        "run_id": run_id,
        "configurable": configurable,
        "metadata": {**stored.get("metadata", {}), **metadata, "run_id": str(run_id)},
    }
    return cast("RunnableConfig", config)


def graph_input(kwargs: dict[str, Any]) -> Any:
    """The input of one execution; a command wins over an input that came with it."""
    command = Command.model_validate(kwargs["command"] or {})
    if kwargs["command"]:
        return graph_command(resume=command.resume, update=command.update, goto=command.goto)
    return kwargs["input"]
