"""Refusals: answers with ``{"detail", "code"}``. The middleware learns the code from each."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.auth.api_keys import HEADER
from headrace.auth.handler_errors import RefusedByHandler
from headrace.edge.exchange import exchange_of
from headrace.error_text import clipped
from headrace.errors import RequestError, Unauthenticated
from headrace.events.json_encoding import encode_json

#: Bytes of a ``detail``, which may repeat values that the caller has sent.
_MAX_DETAIL_BYTES = 16 * 1024


class RefusalResponse(Response):
    """A refusal.

    :param detail: what to change, for people. The SDKs show it to the caller.
    :param code: stable, for programs; one of a bounded set, because it is a label of a metric.
    :param body: for clients of another API, which read detail and code in another form.
    """

    def __init__(
        self,
        detail: str,
        code: str,
        *,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> None:
        super().__init__(
            encode_json(body or {"detail": short_detail(detail), "code": code}),
            status_code=status,
            headers=dict(headers or {}),
            media_type="application/json",
        )
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (exchange := exchange_of(scope)) is not None:
            exchange.note_code(self._code)
        await super().__call__(scope, receive, send)


def short_detail(detail: str) -> str:
    """A ``detail`` that is not longer than one may be."""
    return clipped(detail, _MAX_DETAIL_BYTES)


def error_response(error: RequestError) -> RefusalResponse:
    """The answer for an error."""
    return RefusalResponse(
        error.message, error.code, status=error.status, headers=headers_of_error(error)
    )


def headers_of_error(error: RequestError) -> dict[str, str]:
    """When to try again, and how to say who one is."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, RefusedByHandler):
        headers |= error.headers
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = _challenge(error)
    return headers


def _challenge(error: Unauthenticated) -> str:
    key = f'ApiKey header="{HEADER}"'
    if error.bearer is None:
        return key
    # Without a fault of the token, both ways are open.
    return f'Bearer error="{error.bearer}"' if error.bearer else f"{key}, Bearer"
