"""Assistants over HTTP."""

from typing import Annotated, Any, cast

from fastapi import APIRouter, Body, Depends, Query, Request, Response

from headrace.assistants import graph_endpoints
from headrace.assistants.paths import PathAssistantId
from headrace.assistants.schemas import (
    Assistant,
    AssistantCreate,
    AssistantFilter,
    AssistantSearch,
    AssistantUpdate,
    AssistantVersion,
    LatestVersion,
    SelectedAssistant,
    VersionSearch,
)
from headrace.assistants.service import AssistantService
from headrace.auth.dependencies import CurrentPrincipal
from headrace.checkpoints.row_pages import next_page
from headrace.edge.places import changes_when, lists
from headrace.edge.responses import held_response, json_response
from headrace.edge.routing import new_router
from headrace.edge.state import state_of

own_router = new_router(tag="assistants")


async def _service(request: Request) -> AssistantService:
    return cast("AssistantService", state_of(request).assistants)


Assistants = Annotated[AssistantService, Depends(_service)]


@own_router.post("/assistants", response_model=Assistant)
async def create_assistant(
    body: AssistantCreate, principal: CurrentPrincipal, assistants: Assistants
) -> Response:
    """Create an assistant: a graph with a configuration."""
    return json_response(Assistant.from_row(await assistants.create(principal, body)))


@own_router.post("/assistants/search", response_model=list[SelectedAssistant])
@lists
async def search_assistants(
    principal: CurrentPrincipal,
    assistants: Assistants,
    query: Annotated[AssistantSearch | None, Body()] = None,
) -> Response:
    """List assistants, newest first.

    The header `X-Pagination-Next` is there while there are more. Where assistants are large, a page
    may have fewer than `limit`: go on from that header.
    """
    query = query or AssistantSearch()
    reading = assistants.reading()
    rows, more = await assistants.search(principal, query, reading)
    seen = query.offset + len(rows)
    headers = {"X-Pagination-Total": str(seen + 1 if more else seen)}
    if more:
        headers["X-Pagination-Next"] = str(seen)
    shown: list[dict[str, Any]] = [Assistant.from_row(row).__dict__ for row in rows]
    if query.select:
        shown = [{field: one[field] for field in query.select} for one in shown]
    return held_response(shown, reading, headers=headers)


@own_router.post("/assistants/count")
@lists
async def count_assistants(
    principal: CurrentPrincipal,
    assistants: Assistants,
    query: Annotated[AssistantFilter | None, Body()] = None,
) -> int:
    """Count the assistants that a filter leaves."""
    return await assistants.count(principal, query or AssistantFilter())


@own_router.get("/assistants/{assistant_id}", response_model=Assistant)
async def get_assistant(
    assistant_id: PathAssistantId, principal: CurrentPrincipal, assistants: Assistants
) -> Response:
    """Read an assistant, by an id or by the name of a graph."""
    return json_response(Assistant.from_row(await assistants.get(principal, assistant_id)))


@own_router.patch("/assistants/{assistant_id}", response_model=Assistant)
async def update_assistant(
    assistant_id: PathAssistantId,
    body: AssistantUpdate,
    principal: CurrentPrincipal,
    assistants: Assistants,
) -> Response:
    """Make a new version of an assistant, which runs use from now on."""
    return json_response(Assistant.from_row(await assistants.update(principal, assistant_id, body)))


@own_router.delete("/assistants/{assistant_id}", status_code=204)
@changes_when(lambda values: bool(values["delete_threads"]))
async def delete_assistant(
    assistant_id: PathAssistantId,
    principal: CurrentPrincipal,
    assistants: Assistants,
    request: Request,
    delete_threads: Annotated[bool, Query()] = False,
) -> None:
    """Delete an assistant with all versions, and the threads if that is asked for."""
    also = state_of(request).delete_threads_of if delete_threads else None
    await assistants.delete(principal, assistant_id, delete_threads=also)


@own_router.post("/assistants/{assistant_id}/versions", response_model=list[AssistantVersion])
@lists
async def list_assistant_versions(
    assistant_id: PathAssistantId,
    principal: CurrentPrincipal,
    assistants: Assistants,
    query: Annotated[VersionSearch | None, Body()] = None,
) -> Response:
    """List the versions of an assistant, newest first.

    Where they are large, a page may have fewer than `limit`. `X-Pagination-Next` is there then:
    send it as `offset` to go on.
    """
    reading = assistants.reading()
    wanted = query or VersionSearch()
    page = await assistants.versions(principal, assistant_id, wanted, reading)
    shown = [AssistantVersion.from_version_row(row) for row in page.rows]
    return held_response(shown, reading, headers=next_page(page, wanted.offset))


@own_router.post("/assistants/{assistant_id}/latest", response_model=Assistant)
async def set_latest_assistant_version(
    assistant_id: PathAssistantId,
    body: LatestVersion,
    principal: CurrentPrincipal,
    assistants: Assistants,
) -> Response:
    """Choose the version of an assistant that runs use from now on."""
    row = await assistants.set_latest(principal, assistant_id, body.version)
    return json_response(Assistant.from_row(row))


router = APIRouter()
for _router in (own_router, graph_endpoints.router):
    router.include_router(_router)
