"""Assistants over HTTP, with the drawings and schemas of their graphs."""

from typing import Annotated, Any

from fastapi import Body, Path, Query, Response
from pydantic import BaseModel, Field

from headrace.assistants.graph_service import GraphService
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
from headrace.checkpoints.row_pages import next_page
from headrace.edge.access import PAGE, AssistantDeleter, AssistantReader, CurrentAccess
from headrace.edge.gates import changes_when, lists
from headrace.edge.repetition import repeatable
from headrace.edge.responses import held_response, json_response
from headrace.edge.routing import new_router
from headrace.edge.state import provided
from headrace.threads.endpoints import Removal

#: An id, or the name of a graph. The service tells which.
PathAssistantId = Annotated[str, Path(max_length=1000)]


router = new_router(tag="assistants")


Assistants = Annotated[AssistantService, provided(AssistantService)]


@router.post("/assistants", response_model=Assistant)
@repeatable
async def create_assistant(
    body: AssistantCreate, access: CurrentAccess, assistants: Assistants
) -> Response:
    """Create an assistant: a graph with a configuration."""
    principal, body = await access.to_send(
        "assistants",
        "create",
        body,
        ("assistant_id", "graph_id", "config", "context", "if_exists", "name"),
    )
    reader = None
    if body.if_exists == "do_nothing" and body.assistant_id is not None:
        # The answer may show an assistant that is there.
        reader = await access.to("assistants", "read", assistant_id=body.assistant_id)
    row = await assistants.create(principal, body, reader=reader)
    return json_response(Assistant.from_row(row))


@router.post("/assistants/search", response_model=list[SelectedAssistant])
@lists
@repeatable
async def search_assistants(
    access: CurrentAccess,
    assistants: Assistants,
    query: Annotated[AssistantSearch | None, Body()] = None,
) -> Response:
    """List assistants, newest first.

    While there are more, the header `X-Pagination-Next` is set: send that value as `offset` to get
    the next page. A page of large assistants may have fewer than `limit`.
    """
    principal, query = await access.to_send(
        "assistants", "search", query or AssistantSearch(), ("graph_id", "limit", "offset")
    )
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


@router.post("/assistants/count")
@lists
@repeatable
async def count_assistants(
    access: CurrentAccess,
    assistants: Assistants,
    query: Annotated[AssistantFilter | None, Body()] = None,
) -> int:
    """Count the assistants that match a filter."""
    principal, wanted = await access.to_send(
        "assistants",
        "search",
        query or AssistantFilter(),
        ("graph_id",),
        unheeded=PAGE,
        limit=None,
        offset=0,
    )
    return await assistants.count(principal, wanted)


@router.get("/assistants/{assistant_id}", response_model=Assistant)
async def get_assistant(
    assistant_id: PathAssistantId, principal: AssistantReader, assistants: Assistants
) -> Response:
    """Read an assistant, by id or by the name of a graph."""
    return json_response(Assistant.from_row(await assistants.get(principal, assistant_id)))


@router.patch("/assistants/{assistant_id}", response_model=Assistant)
@repeatable
async def update_assistant(
    assistant_id: PathAssistantId,
    body: AssistantUpdate,
    access: CurrentAccess,
    assistants: Assistants,
) -> Response:
    """Make a new version of an assistant, which runs use from now on."""
    principal, body = await access.to_send(
        "assistants", "update", body, ("graph_id", "config", "context", "name"), version=None
    )
    return json_response(Assistant.from_row(await assistants.update(principal, assistant_id, body)))


@router.delete("/assistants/{assistant_id}", status_code=204)
@changes_when(lambda values: bool(values["delete_threads"]))
@repeatable
async def delete_assistant(
    assistant_id: PathAssistantId,
    principal: AssistantDeleter,
    assistants: Assistants,
    removal: Removal,
    access: CurrentAccess,
    delete_threads: Annotated[bool, Query()] = False,
) -> None:
    """Delete an assistant with all versions, and with `delete_threads` also the threads."""
    remover = await access.to("threads", "delete", thread_id=None) if delete_threads else principal
    await assistants.delete(
        principal, assistant_id, threads=removal if delete_threads else None, remover=remover
    )


@router.post("/assistants/{assistant_id}/versions", response_model=list[AssistantVersion])
@lists
@repeatable
async def list_assistant_versions(
    assistant_id: PathAssistantId,
    principal: AssistantReader,
    assistants: Assistants,
    query: Annotated[VersionSearch | None, Body()] = None,
) -> Response:
    """List the versions of an assistant, newest first.

    While there are more, the header `X-Pagination-Next` is set: send that value as `offset` to get
    the next page. A page of large versions may have fewer than `limit`.
    """
    reading = assistants.reading()
    wanted = query or VersionSearch()
    page = await assistants.versions(principal, assistant_id, wanted, reading)
    shown = [AssistantVersion.from_version_row(row) for row in page.rows]
    return held_response(shown, reading, headers=next_page(page, wanted.offset))


@router.post("/assistants/{assistant_id}/latest", response_model=Assistant)
@repeatable
async def set_latest_assistant_version(
    assistant_id: PathAssistantId,
    body: LatestVersion,
    access: CurrentAccess,
    assistants: Assistants,
) -> Response:
    """Choose the version of an assistant that runs use from now on."""
    principal = await access.to("assistants", "update", version=body.version)
    row = await assistants.set_latest(principal, assistant_id, body.version)
    return json_response(Assistant.from_row(row))


JSONSchema = dict[str, Any] | None


class GraphSchemas(BaseModel):
    """JSON schemas of a graph. A schema that the server cannot derive is null."""

    graph_id: str
    input_schema: JSONSchema
    output_schema: JSONSchema
    state_schema: JSONSchema
    config_schema: JSONSchema
    context_schema: JSONSchema


class Drawing(BaseModel):
    """Nodes ``{id, type, data}`` and edges ``{source, target, conditional}``."""

    nodes: list[dict[str, Any]]
    edges: list[dict[str, Any]]


Graphs = Annotated[GraphService, provided(GraphService)]
#: The depth of the drawing; ``true`` for all subgraphs, ``false`` for none.
XRay = Annotated[Annotated[int, Field(ge=0, le=100)] | bool, Query()]


@router.get("/assistants/{assistant_id}/graph", response_model=Drawing)
async def get_assistant_graph(
    assistant_id: PathAssistantId, principal: AssistantReader, graphs: Graphs, xray: XRay = False
) -> Response:
    """Draw the graph of an assistant: nodes and edges.

    With `xray`, the drawing includes subgraphs: down to that depth, or `true` for all.
    """
    return json_response(await graphs.drawing(principal, assistant_id, xray=xray))


@router.get("/assistants/{assistant_id}/schemas", response_model=GraphSchemas)
async def get_assistant_schemas(
    assistant_id: PathAssistantId, principal: AssistantReader, graphs: Graphs
) -> Response:
    """Describe the input, output, state and context of the graph of an assistant."""
    return json_response(await graphs.schemas(principal, assistant_id))


@router.get("/assistants/{assistant_id}/subgraphs", response_model=dict[str, GraphSchemas])
async def get_assistant_subgraphs(
    assistant_id: PathAssistantId,
    principal: AssistantReader,
    graphs: Graphs,
    recurse: Annotated[bool, Query()] = False,
) -> Response:
    """Describe the subgraphs of an assistant, by namespace.

    With `recurse`, the answer includes the subgraphs of subgraphs.
    """
    return json_response(await graphs.subgraphs(principal, assistant_id, recurse=recurse))


@router.get(
    "/assistants/{assistant_id}/subgraphs/{namespace:path}", response_model=dict[str, GraphSchemas]
)
async def get_assistant_subgraph(
    assistant_id: PathAssistantId,
    namespace: Annotated[str, Path(max_length=10_000)],
    principal: AssistantReader,
    graphs: Graphs,
    recurse: Annotated[bool, Query()] = False,
) -> Response:
    """Describe the subgraph of an assistant at a namespace.

    The namespace `a|b` names the subgraph `b` inside the subgraph `a`.
    """
    found = await graphs.subgraphs(principal, assistant_id, namespace=namespace, recurse=recurse)
    return json_response(found)
