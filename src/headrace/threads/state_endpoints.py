"""Routes of the states of threads: read, update, history, storage."""

from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypeVar

from fastapi import Path, Query, Response
from pydantic import BaseModel, ValidationError

from headrace.auth.principal import Principal
from headrace.edge.access import ThreadChanger, ThreadReader
from headrace.edge.gates import changes, lists
from headrace.edge.query_lists import QueryList, query_values
from headrace.edge.repetition import repeatable
from headrace.edge.responses import held_response, json_response, list_response
from headrace.edge.routing import error_lines, new_router
from headrace.edge.state import provided
from headrace.errors import InvalidRequest
from headrace.states.schemas import (
    MAX_HISTORY,
    CheckpointId,
    CheckpointRef,
    HistoryQuery,
    ShownState,
    StateQuery,
    StateUpdate,
    ThreadState,
    ThreadStorage,
    UpdatedState,
    selected,
)
from headrace.threads.endpoints import PathThreadId
from headrace.threads.state_service import StateService

router = new_router(tag="threads")

Model = TypeVar("Model", bound=BaseModel)


States = Annotated[StateService, provided(StateService)]


@router.get("/threads/{thread_id}/state", response_model=ShownState)
async def get_thread_state(
    thread_id: PathThreadId,
    principal: ThreadReader,
    states: States,
    subgraphs: Annotated[bool, Query()] = False,
    select: QueryList = None,
) -> Response:
    """Read the state of a thread at the latest checkpoint."""
    query = _state_query(CheckpointRef(), subgraphs, select)
    return await _answer(states, principal, thread_id, query)


@router.get("/threads/{thread_id}/state/{checkpoint_id}", response_model=ShownState)
async def get_thread_state_at(
    thread_id: PathThreadId,
    checkpoint_id: Annotated[CheckpointId, Path()],
    principal: ThreadReader,
    states: States,
    subgraphs: Annotated[bool, Query()] = False,
    select: QueryList = None,
) -> Response:
    """Read the state of a thread at one checkpoint.

    For a checkpoint that is not there the state has no values.
    """
    query = _state_query(CheckpointRef(checkpoint_id=checkpoint_id), subgraphs, select)
    return await _answer(states, principal, thread_id, query)


@router.post("/threads/{thread_id}/state/checkpoint", response_model=ShownState)
@repeatable
async def post_thread_state_at(
    thread_id: PathThreadId, principal: ThreadReader, states: States, query: StateQuery
) -> Response:
    """Read the state of a thread at a checkpoint, also one of a subgraph.

    A request that names no checkpoint gets the latest one.
    """
    return await _answer(states, principal, thread_id, query)


@router.post("/threads/{thread_id}/state", response_model=UpdatedState)
@changes
@repeatable
async def update_thread_state(
    thread_id: PathThreadId, principal: ThreadChanger, states: States, body: StateUpdate
) -> Response:
    """Change the state of a thread as if a node had written these values."""
    checkpoint = await states.update(principal, thread_id, body)
    return json_response(
        {
            "checkpoint": checkpoint,
            "configurable": checkpoint,
            "checkpoint_id": checkpoint["checkpoint_id"],
        }
    )


@router.get("/threads/{thread_id}/history", response_model=list[ShownState])
@lists
async def get_thread_history(
    thread_id: PathThreadId,
    principal: ThreadReader,
    states: States,
    limit: Annotated[int, Query(ge=0, le=MAX_HISTORY)] = 1,
    before: Annotated[CheckpointId | None, Query()] = None,
    select: QueryList = None,
) -> Response:
    """List the states of a thread, newest first.

    A page of large states may have fewer than `limit`. The answer then has the header
    `X-Pagination-Next`: send it as `before` to go on.
    """
    query = _valid(
        HistoryQuery, {"limit": limit, "before": before, "select": query_values(select, "select")}
    )
    return await _history(states, principal, thread_id, query)


@router.post("/threads/{thread_id}/history", response_model=list[ShownState])
@lists
@repeatable
async def post_thread_history(
    thread_id: PathThreadId,
    principal: ThreadReader,
    states: States,
    query: HistoryQuery | None = None,
) -> Response:
    """List the states of a thread, filtered by metadata, or the states of a subgraph."""
    return await _history(states, principal, thread_id, query or HistoryQuery())


@router.get("/threads/{thread_id}/storage", response_model=ThreadStorage)
@lists
async def get_thread_storage(
    thread_id: PathThreadId, principal: ThreadReader, states: States
) -> ThreadStorage:
    """Measure how many bytes the checkpoints of a thread take, by channel."""
    return await states.storage(principal, thread_id)


async def _answer(
    states: StateService, principal: Principal, thread_id: str, query: StateQuery
) -> Response:
    reading = states.reading(query.select)
    state = await states.read(
        principal,
        thread_id,
        checkpoint=query.checkpoint,
        subgraphs=query.subgraphs,
        reading=reading,
    )
    return held_response(_shown(state, query.select), reading)


async def _history(
    states: StateService, principal: Principal, thread_id: str, query: HistoryQuery
) -> Response:
    reading = states.reading(query.select)
    found = await states.history(principal, thread_id, query, reading)

    async def shown() -> AsyncGenerator[dict[str, Any], None]:
        async for state in found.states():
            item = _shown(state, query.select)
            del state
            yield item
            del item

    headers = {} if found.next_before is None else {"X-Pagination-Next": found.next_before}
    return await list_response(shown(), reading, headers=headers)


def _shown(state: ThreadState, select: list[str] | None) -> dict[str, Any]:
    return selected(state.__dict__, select)


def _state_query(
    checkpoint: CheckpointRef, subgraphs: bool, select: list[str] | None
) -> StateQuery:
    return _valid(
        StateQuery,
        {
            "checkpoint": checkpoint,
            "subgraphs": subgraphs,
            "select": query_values(select, "select"),
        },
    )


def _valid(model: type[Model], fields: dict[str, Any]) -> Model:
    """The model of these fields.

    :raises InvalidRequest: a field is not valid.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False)
        told = [(item["loc"], item["msg"]) for item in items]
        raise InvalidRequest(error_lines(told, len(told))) from None
