"""Store items over HTTP. Handlers see namespaces as tuples, as LangGraph's server shows them."""

from typing import Annotated

from fastapi import Body, Query, Response

from headrace.edge.access import CurrentAccess
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
async def put_item(body: ItemPut, access: CurrentAccess, items: StoreItems) -> None:
    """Write an item. It replaces the item with this key."""
    body = body.model_copy(update={"namespace": tuple(body.namespace)})
    names = ("namespace", "key", "value", "index")
    principal, body = await access.to_send("store", "put", body, names)
    await items.put(principal, body)


@router.get("/store/items", response_model=StoreItem | None)
async def get_item(
    access: CurrentAccess,
    items: StoreItems,
    key: Key,
    namespace: Annotated[list[Label] | None, Query(max_length=MAX_LABELS)] = None,
    refresh_ttl: bool | None = None,
) -> Response:
    """Read an item; null where there is none.

    Send the labels of the namespace joined by periods, or repeat the parameter for each label.
    """
    labels = [label for part in namespace or () for label in part.split(".")]
    wanted = ItemDelete.model_construct(key=key)
    wanted = wanted.model_copy(update={"namespace": tuple(labels)})
    principal, wanted = await access.to_send("store", "get", wanted, ("namespace", "key"))
    item = await items.get(principal, wanted.namespace, wanted.key, refresh_ttl=refresh_ttl)
    return json_response(StoreItem.from_item(item) if item is not None else None)


@router.delete("/store/items", status_code=204)
@repeatable
async def delete_item(body: ItemDelete, access: CurrentAccess, items: StoreItems) -> None:
    """Delete an item.

    The answer is 204 also where there is no such item.
    """
    body = body.model_copy(update={"namespace": tuple(body.namespace)})
    principal, body = await access.to_send("store", "delete", body, ("namespace", "key"))
    await items.delete(principal, body)


@router.post("/store/items/search", response_model=FoundItems)
@lists
@repeatable
async def search_items(
    access: CurrentAccess,
    items: StoreItems,
    query: Annotated[ItemSearch | None, Body()] = None,
) -> Response:
    """List the items below a namespace: last changed first, or closest to `query` first."""
    wanted = query or ItemSearch()
    prefix = tuple(wanted.namespace_prefix or ())
    principal, wanted = await access.to_send(
        "store",
        "search",
        wanted.model_copy(update={"namespace_prefix": prefix}),
        {"namespace": "namespace_prefix", **_itself("filter", "limit", "offset", "query")},
    )
    reading = items.reading()
    found = await items.search(principal, wanted, reading)
    return held_response({"items": [FoundItem.from_item(item) for item in found]}, reading)


@router.post("/store/namespaces", response_model=Namespaces)
@lists
@repeatable
async def list_namespaces(
    access: CurrentAccess,
    items: StoreItems,
    query: Annotated[NamespaceSearch | None, Body()] = None,
) -> Response:
    """List the namespaces that have items."""
    wanted = query or NamespaceSearch()
    bounds = {"prefix": tuple(wanted.prefix or ()), "suffix": tuple(wanted.suffix or ())}
    principal, wanted = await access.to_send(
        "store",
        "list_namespaces",
        wanted.model_copy(update=bounds),
        {"namespace": "prefix", **_itself("suffix", "max_depth", "limit", "offset")},
    )
    found = await items.namespaces(principal, wanted)
    return json_response({"namespaces": found})


def _itself(*names: str) -> dict[str, str]:
    """Fields that handlers see under their own names."""
    return {name: name for name in names}
