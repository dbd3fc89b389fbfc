"""The key of a request, for endpoints."""

from typing import Annotated

from fastapi import Depends, Request

from headrace.errors import InvalidRequest
from headrace.idempotency.schemas import HEADER, MAX_KEY_LENGTH, RequestKey


async def _request_key(request: Request) -> RequestKey | None:
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"{HEADER}: 1 to {MAX_KEY_LENGTH} characters, please.")
    return RequestKey.of(request.url.path, key, await request.body())


IdempotencyKey = Annotated[RequestKey | None, Depends(_request_key)]
