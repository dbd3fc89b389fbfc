"""What an assistant's graph looks like, over HTTP."""

from typing import Annotated, Any, cast

from fastapi import Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from headrace.assistants.graph_service import GraphService
from headrace.assistants.paths import PathAssistantId
from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import state_of

router = new_router(tag="assistants")

JSONSchema = dict[str, Any] | None


class GraphSchemas(BaseModel):
    """JSON schemas; null where none can be told."""

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


async def _service(request: Request) -> GraphService:
    return cast("GraphService", state_of(request).assistant_graphs)


Graphs = Annotated[GraphService, Depends(_service)]
#: A depth, or whether at all.
XRay = Annotated[Annotated[int, Field(ge=0, le=100)] | bool, Query()]


@router.get("/assistants/{assistant_id}/graph", response_model=Drawing)
async def get_assistant_graph(
    assistant_id: PathAssistantId, principal: CurrentPrincipal, graphs: Graphs, xray: XRay = False
) -> Response:
    """Draw the graph of an assistant: nodes and edges.

    With `xray` those of subgraphs too, to all depths or that many.
    """
    return json_response(await graphs.drawing(principal, assistant_id, xray=xray))


@router.get("/assistants/{assistant_id}/schemas", response_model=GraphSchemas)
async def get_assistant_schemas(
    assistant_id: PathAssistantId, principal: CurrentPrincipal, graphs: Graphs
) -> Response:
    """Describe what the graph of an assistant takes, gives and holds."""
    return json_response(await graphs.schemas(principal, assistant_id))


@router.get("/assistants/{assistant_id}/subgraphs", response_model=dict[str, GraphSchemas])
async def get_assistant_subgraphs(
    assistant_id: PathAssistantId,
    principal: CurrentPrincipal,
    graphs: Graphs,
    recurse: Annotated[bool, Query()] = False,
) -> Response:
    """Describe the subgraphs of an assistant by namespace.

    With `recurse` those inside of subgraphs too.
    """
    return json_response(await graphs.subgraphs(principal, assistant_id, recurse=recurse))


@router.get(
    "/assistants/{assistant_id}/subgraphs/{namespace:path}", response_model=dict[str, GraphSchemas]
)
async def get_assistant_subgraph(
    assistant_id: PathAssistantId,
    namespace: Annotated[str, Path(max_length=10_000)],
    principal: CurrentPrincipal,
    graphs: Graphs,
    recurse: Annotated[bool, Query()] = False,
) -> Response:
    """Describe the subgraph of an assistant that has this namespace.

    `a|b` is `b` inside of `a`.
    """
    found = await graphs.subgraphs(principal, assistant_id, namespace=namespace, recurse=recurse)
    return json_response(found)
