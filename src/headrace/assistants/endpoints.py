"""Assistants over HTTP."""

from typing import Annotated, cast

from fastapi import Body, Depends, Request, Response

from headrace.assistants.schemas import Assistant, AssistantSearch
from headrace.assistants.service import AssistantService
from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.routing import new_router
from headrace.edge.state import state_of

router = new_router(tag="assistants")


async def _service(request: Request) -> AssistantService:
    return cast("AssistantService", state_of(request).assistants)


Assistants = Annotated[AssistantService, Depends(_service)]


@router.post("/assistants/search")
async def search_assistants(
    principal: CurrentPrincipal,
    assistants: Assistants,
    response: Response,
    query: Annotated[AssistantSearch | None, Body()] = None,
) -> list[Assistant]:
    """Assistants, newest first. ``X-Pagination-Next`` is there when another page is."""
    query = query or AssistantSearch()
    rows, more = await assistants.search(principal, query)
    seen = query.offset + len(rows)
    response.headers["X-Pagination-Total"] = str(seen + 1 if more else seen)
    if more:
        response.headers["X-Pagination-Next"] = str(seen)
    return [Assistant.from_row(row) for row in rows]


@router.get("/assistants/{assistant_id}")
async def get_assistant(
    assistant_id: str, principal: CurrentPrincipal, assistants: Assistants
) -> Assistant:
    """One assistant, by its id or by its graph's name."""
    return Assistant.from_row(await assistants.get(principal, assistant_id))
