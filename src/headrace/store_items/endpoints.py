"""Store items over HTTP."""

from typing import Annotated

from fastapi import Body, Query, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.gates import lists
from headrace.edge.repetition import repeatable
from headrace.edge.responses import held_response, json_response
from headrace.edge.routing import new_router
from headrace.edge.state import provided
from headrace.store_items.schemas import (
    MAX_LABELS,
    FoundItem,
    FoundItems,
    ItemDelete,
    ItemPut,
    ItemSearch,
    Key,
    Label,
    Namespaces,
    NamespaceSearch,
    StoreItem,
)
from headrace.store_items.service import StoreService

router = new_router(tag="store")


StoreItems = Annotated[StoreService, provided(StoreService)]


@router.put("/store/items", status_code=204)
@repeatable
async def put_item(body: ItemPut, principal: CurrentPrincipal, items: StoreItems) -> None:
    """Write an item. It replaces the item with this key."""
    await items.put(principal, body)


@router.get("/store/items", response_model=StoreItem | None)
async def get_item(
    principal: CurrentPrincipal,
    items: StoreItems,
    key: Key,
    namespace: Annotated[list[Label] | None, Query(max_length=MAX_LABELS)] = None,
    refresh_ttl: bool | None = None,
) -> Response:
    """Read an item; null where there is none.

    Send the labels of the namespace joined by periods, or repeat the parameter for each label.
    """
    labels = [label for part in namespace or () for label in part.split(".")]
    item = await items.get(principal, labels, key, refresh_ttl=refresh_ttl)
    return json_response(StoreItem.from_item(item) if item is not None else None)


@router.delete("/store/items", status_code=204)
@repeatable
async def delete_item(body: ItemDelete, principal: CurrentPrincipal, items: StoreItems) -> None:
    """Delete an item.

    The answer is 204 also where there is no such item.
    """
    await items.delete(principal, body)


@router.post("/store/items/search", response_model=FoundItems)
@lists
@repeatable
async def search_items(
    principal: CurrentPrincipal,
    items: StoreItems,
    query: Annotated[ItemSearch | None, Body()] = None,
) -> Response:
    """List the items below a namespace, last changed first."""
    reading = items.reading()
    found = await items.search(principal, query or ItemSearch(), reading)
    return held_response({"items": [FoundItem.from_item(item) for item in found]}, reading)


@router.post("/store/namespaces", response_model=Namespaces)
@lists
@repeatable
async def list_namespaces(
    principal: CurrentPrincipal,
    items: StoreItems,
    query: Annotated[NamespaceSearch | None, Body()] = None,
) -> Response:
    """List the namespaces that have items."""
    found = await items.namespaces(principal, query or NamespaceSearch())
    return json_response({"namespaces": found})
