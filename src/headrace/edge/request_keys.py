"""The FastAPI dependency for the idempotency key of a request."""

from typing import Annotated

from fastapi import Depends, Request

from headrace.edge.requests import JSONRequest
from headrace.errors import InvalidRequest
from headrace.idempotency.schemas import HEADER, MAX_KEY_LENGTH, RequestKey, do_nothing
from headrace.ids import canonical_uuid


async def _request_key(request: Request) -> RequestKey | None:
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"{HEADER}: send 1 to {MAX_KEY_LENGTH} characters.")
    body = await request.body()
    # The turn alone, because the key lives as long as its run.
    turn = request.turn if isinstance(request, JSONRequest) else None
    return RequestKey.of(
        _route(request), key, body, before_waiting=do_nothing if turn is None else turn.end
    )


def _route(request: Request) -> str:
    """The path, with the thread's id in its canonical spelling."""
    path, given = request.url.path, request.path_params.get("thread_id", "")
    return path.replace(given, canonical_uuid(given) or given, 1) if given else path


IdempotencyKey = Annotated[RequestKey | None, Depends(_request_key)]
