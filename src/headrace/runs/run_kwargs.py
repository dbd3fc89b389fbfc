"""The ``kwargs`` of a run: what its process needs to execute it, from assistant and request."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from headrace.db.tables import AssistantRow
from headrace.errors import BadRequest, InvalidRequest
from headrace.graphs.configuration import checked_config, is_callers
from headrace.runs.schemas import RunCreate


def run_kwargs(
    assistant: AssistantRow,
    body: RunCreate,
    *,
    temporary: bool,
    strict_resume: bool = False,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The arguments that are stored with the run. A process needs no others to execute it.

    :param strict_resume: check what the command resumes again when the run starts.
    :param headers: headers of the request, for the graph. They win over the body: a proxy in front
        may have set them, and a caller must not override them.
    :raises BadRequest: the request has both ``configurable`` and ``context``.
    :raises InvalidRequest: no run can use the configuration of the assistant.
    """
    own = body.config or {}
    configurable = own.get("configurable") or {}
    if configurable and body.context:
        raise BadRequest(
            "Cannot specify both config.configurable and context. Send context alone: it takes the"
            " place of configurable since LangGraph 0.6."
        )
    merged = _merged(assistant, own)
    # ``configurable`` and ``context`` are two names for one thing. A graph reads either of them.
    given = body.context or {}
    if configurable:
        given = {key: value for key, value in configurable.items() if is_callers(key)}
    inherited = assistant.config.get("configurable") or {}
    merged["configurable"] = {
        **{key: value for key, value in (inherited | given).items() if is_callers(key)},
        **headers,
    }
    durability = body.durability or ("exit" if body.checkpoint_during is False else "async")
    return {
        "input": body.input,
        "command": body.command.model_dump(exclude_none=True) if body.command else None,
        **({"protocol": body.protocol} if body.protocol else {}),
        **({"strict_resume": True} if strict_resume else {}),
        **({"deadline_seconds": body.deadline_seconds} if body.deadline_seconds else {}),
        **({"webhook": body.webhook} if body.webhook else {}),
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
        # The assistant may be older than the check of configurations.
        raise InvalidRequest(
            f"Assistant {assistant.assistant_id} has a configuration that no run can have: {error}"
        ) from error
