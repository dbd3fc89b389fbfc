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
from headrace.graphs.configuration import CHECKPOINT_KEYS, checked_config
from headrace.graphs.wiring import STRICT_RESUME
from headrace.runs.schemas import RunCreate


def run_kwargs(
    assistant: AssistantRow,
    body: RunCreate,
    *,
    temporary: bool,
    checkpoint: Mapping[str, Any] = MappingProxyType({}),
    headers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """What is stored with the run; enough to execute it.

    :param headers: of the request, what the graph is to see. They stand above the body: a proxy in
        front may have set them, whom no caller is to contradict.
    :param checkpoint: where to start from, unless that is where the thread stands: for LangGraph
        the latter would be a step back in time too.

    :raises BadRequest: both configurable and context.
    :raises InvalidRequest: malformed configuration.
    """
    own = body.config or {}
    configurable = own.get("configurable") or {}
    if configurable and body.context:
        raise BadRequest(
            "Cannot specify both config.configurable and context. Send context alone: it takes the"
            " place of configurable since LangGraph 0.6."
        )
    merged = _merged(assistant, own)
    # Two names of one thing: graphs of either kind find in theirs what came under the other.
    given = body.context or {}
    if configurable:
        given = {key: value for key, value in configurable.items() if key not in CHECKPOINT_KEYS}
    inherited = assistant.config.get("configurable") or {}
    merged["configurable"] = {
        **{key: value for key, value in (inherited | given).items() if _may_be_given(key)},
        **headers,
        **checkpoint,
    }
    durability = body.durability or ("exit" if body.checkpoint_during is False else "async")
    return {
        "input": body.input,
        "command": body.command.model_dump(exclude_none=True) if body.command else None,
        **({"strict_resume": True} if body.strict_resume else {}),
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


def _merged(assistant: AssistantRow, own: dict[str, Any]) -> dict[str, Any]:
    if not assistant.config:
        return own.copy()
    try:
        return {**checked_config(assistant.config), **own}
    except ValueError as error:
        # Of an assistant from before its configuration was looked at.
        raise InvalidRequest(
            f"Assistant {assistant.assistant_id} has a configuration that no run can have: {error}"
        ) from error


def _may_be_given(key: str) -> bool:
    """Double-underscored keys are LangGraph's own wiring; which checkpoint is said apart."""
    return not key.startswith("__") and key not in CHECKPOINT_KEYS


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
    if kwargs.get("strict_resume"):
        configurable[STRICT_RESUME] = True
    config: dict[str, Any] = {
        "recursion_limit": recursion_limit,
        **stored,
        "run_id": run_id,
        "configurable": configurable,
        "metadata": {**stored.get("metadata", {}), **metadata, "run_id": str(run_id)},
    }
    return cast("RunnableConfig", config)


def checkpoints_in(config: RunnableConfig) -> list[RunnableConfig]:
    """Each checkpoint that a configuration names: the thread's own, and those of subgraphs."""
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


def graph_input(kwargs: dict[str, Any]) -> Any:
    """The input of one execution; a command wins over an input that came with it."""
    command = kwargs["command"]
    if command:
        return graph_command(
            resume=command.get("resume"), update=command.get("update"), goto=command.get("goto")
        )
    return kwargs["input"]
