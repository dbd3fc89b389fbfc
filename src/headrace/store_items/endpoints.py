"""Store items over HTTP."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Body, Query, Response

from headrace.auth.handler_errors import HandlerFailed
from headrace.auth.principal import Principal
from headrace.edge.access import Access, CurrentAccess
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
    principal, left = await _in_store(
        access, "put", body.namespace, key=body.key, value=body.value, index=body.index
    )
    body = body.model_copy(update={name: left[name] for name in ("namespace", "key", "value")})
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
    principal, left = await _in_store(access, "get", labels, key=key)
    labels, key = left["namespace"], left["key"]
    item = await items.get(principal, labels, key, refresh_ttl=refresh_ttl)
    return json_response(StoreItem.from_item(item) if item is not None else None)


@router.delete("/store/items", status_code=204)
@repeatable
async def delete_item(body: ItemDelete, access: CurrentAccess, items: StoreItems) -> None:
    """Delete an item.

    The answer is 204 also where there is no such item.
    """
    principal, left = await _in_store(access, "delete", body.namespace, key=body.key)
    body = body.model_copy(update={"namespace": left["namespace"], "key": left["key"]})
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
    principal, left = await _in_store(
        access,
        "search",
        wanted.namespace_prefix or (),
        filter=wanted.filter,
        limit=wanted.limit,
        offset=wanted.offset,
        query=wanted.query,
    )
    changes = {name: left[name] for name in ("filter", "limit", "offset", "query")}
    changes["namespace_prefix"] = left["namespace"]
    wanted = wanted.model_copy(update=changes)
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
    principal, left = await _in_store(
        access,
        "list_namespaces",
        wanted.prefix or (),
        suffix=tuple(wanted.suffix or ()),
        max_depth=wanted.max_depth,
        limit=wanted.limit,
        offset=wanted.offset,
    )
    changes = {name: left[name] for name in ("max_depth", "limit", "offset")}
    changes |= {"prefix": left["namespace"], "suffix": list(left["suffix"] or ())}
    found = await items.namespaces(principal, wanted.model_copy(update=changes))
    return json_response({"namespaces": found})


async def _in_store(
    access: Access, action: str, namespace: Sequence[str], **value: Any
) -> tuple[Principal, dict[str, Any]]:
    """The caller as it may do this, and the value as a handler has left it.

    :raises RequestError: it may not.
    """
    whole = {"namespace": tuple(namespace), **value}
    principal, left = await access.changed("store", action, whole)
    labels = left.get("namespace") or ()
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise HandlerFailed("A handler of langgraph.json's auth has left a namespace of no labels.")
    return principal, {**whole, **left, "namespace": list(labels)}
