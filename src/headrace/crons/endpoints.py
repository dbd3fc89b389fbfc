"""Crons over HTTP."""

from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Body, Path, Request, Response
from pydantic import ValidationError

from headrace.auth.handler_changes import cause_of
from headrace.auth.handler_errors import wrong_change
from headrace.auth.principal import Principal
from headrace.crons.schemas import (
    Cron,
    CronCreate,
    CronFilter,
    CronPatch,
    CronSearch,
    SelectedCron,
    cron_json,
)
from headrace.crons.service import CronService, cron_id_from
from headrace.edge.access import PAGE, Access, CronDeleter, CronReader, CurrentAccess
from headrace.edge.gates import lists
from headrace.edge.repetition import repeatable
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.responses import held_response, json_response
from headrace.edge.routing import new_router
from headrace.edge.state import configurable_headers, provided
from headrace.runs.endpoints import DeadlineSeconds
from headrace.runs.schemas import with_deadline
from headrace.threads.endpoints import PathThreadId

PathCronId = Annotated[str, Path(max_length=255)]

Sent = TypeVar("Sent", CronCreate, CronPatch)

router = new_router(tag="crons")

Crons = Annotated[CronService, provided(CronService)]


@router.post("/runs/crons", response_model=Cron)
async def create_cron(
    body: CronCreate,
    access: CurrentAccess,
    crons: Crons,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a cron: a schedule whose runs get threads of their own."""
    headers = configurable_headers(request)
    principal, body = await _to_create(access, None, with_deadline(body, deadline))
    row = await crons.create(principal, None, body, headers=headers, key=key)
    return json_response(cron_json(row))


@router.post("/threads/{thread_id}/runs/crons", response_model=Cron)
async def create_cron_for_thread(
    thread_id: PathThreadId,
    body: CronCreate,
    access: CurrentAccess,
    crons: Crons,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a cron whose runs share a thread. It is deleted with the thread."""
    headers = configurable_headers(request)
    principal, body = await _to_create(access, thread_id, with_deadline(body, deadline))
    row = await crons.create(principal, thread_id, body, headers=headers, key=key)
    return json_response(cron_json(row))


@router.post("/runs/crons/search", response_model=list[SelectedCron])
@lists
@repeatable
async def search_crons(
    access: CurrentAccess,
    crons: Crons,
    body: Annotated[CronSearch | None, Body()] = None,
) -> Response:
    """List crons, newest first.

    While there are more, the header `X-Pagination-Next` is set: send that value as `offset` to get
    the next page. A page of large crons may have fewer than `limit`.
    """
    principal, query = await access.to_send(
        "crons",
        "search",
        body or CronSearch(),
        ("assistant_id", "thread_id", "limit", "offset"),
    )
    reading = crons.reading()
    rows, more = await crons.search(principal, query, reading)
    seen = query.offset + len(rows)
    headers = {"X-Pagination-Total": str(seen + 1 if more else seen)}
    if more:
        headers["X-Pagination-Next"] = str(seen)
    shown: list[dict[str, Any]] = [cron_json(row) for row in rows]
    if query.select:
        now = datetime.now(UTC)
        whole = [one | {"now": now} for one in shown]
        shown = [{field: one[field] for field in query.select if field in one} for one in whole]
    return held_response(shown, reading, headers=headers)


@router.post("/runs/crons/count", response_model=int)
@lists
@repeatable
async def count_crons(
    access: CurrentAccess,
    crons: Crons,
    body: Annotated[CronFilter | None, Body()] = None,
) -> Response:
    """Count the crons that match a filter."""
    principal, wanted = await access.to_send(
        "crons",
        "search",
        body or CronFilter(),
        ("assistant_id", "thread_id"),
        unheeded=PAGE,
        limit=None,
        offset=0,
    )
    return json_response(await crons.count(principal, wanted))


@router.get("/runs/crons/{cron_id}", response_model=Cron)
async def get_cron(cron_id: PathCronId, principal: CronReader, crons: Crons) -> Response:
    """Read a cron."""
    return json_response(cron_json(await crons.get(principal, cron_id_from(cron_id))))


@router.patch("/runs/crons/{cron_id}", response_model=Cron)
@repeatable
async def update_cron(
    cron_id: PathCronId,
    body: CronPatch,
    access: CurrentAccess,
    crons: Crons,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Change a cron: the schedule, what runs, or whether it runs.

    An omitted field stays as it is, and null removes a field: `end_time: null` lets the cron go on
    for ever. Only the owner changes what the runs do; another caller gets 403 `cron_of_another`.
    Headers of the owner that reach runs replace those that the cron keeps.
    """
    headers = configurable_headers(request)
    body = with_deadline(body, deadline)
    sent = body.model_dump(exclude_unset=True)
    left = deepcopy(sent)
    principal, body = await access.to_send("crons", "update", body, ("schedule",), payload=left)
    patch = _with_payload("update", body, sent, left)
    row = await crons.update(principal, cron_id_from(cron_id), patch, headers=headers)
    return json_response(cron_json(row))


@router.delete("/runs/crons/{cron_id}", status_code=204, response_class=Response)
@repeatable
async def delete_cron(cron_id: PathCronId, principal: CronDeleter, crons: Crons) -> Response:
    """Delete a cron. Runs that it has made go on."""
    await crons.delete(principal, cron_id_from(cron_id))
    return Response(status_code=204)


async def _to_create(
    access: Access, thread_id: str | None, body: CronCreate
) -> tuple[Principal, CronCreate]:
    """:raises RequestError: the caller may not create this cron."""
    sent = body.payload()
    left = deepcopy(sent)
    principal, body = await access.to_send(
        "crons",
        "create",
        body,
        ("schedule", "end_time"),
        cron_id=None,
        thread_id=thread_id,
        user_id=access.principal.identity,
        payload=left,
    )
    return principal, _with_payload("create", body, sent, left)


def _with_payload(
    action: str, body: Sent, sent: Mapping[str, Any], left: Mapping[str, Any]
) -> Sent:
    """The body with what a handler has changed in its payload.

    :raises HandlerFailed: no cron can have what it has left.
    """
    names = [name for name in {*sent, *left} if sent.get(name) != left.get(name)]
    if not names:
        return body
    changes = {name: left.get(name) for name in names}
    if "metadata" in changes:
        changes["metadata"] = {**(changes["metadata"] or {}), **(body.metadata or {})}
    try:
        return type(body).model_validate({**body.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        raise wrong_change(f"crons.{action}", "payload", cause_of(error)) from None
    except TypeError as error:
        raise wrong_change(f"crons.{action}", "payload", str(error)) from None
