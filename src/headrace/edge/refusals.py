"""Refusals: answers with ``{"detail", "code"}``. The middleware learns the code from each."""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.auth.api_keys import HEADER
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
    """

    def __init__(
        self, detail: str, code: str, *, status: int, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            encode_json({"detail": clipped(detail, _MAX_DETAIL_BYTES), "code": code}),
            status_code=status,
            headers=dict(headers or {}),
            media_type="application/json",
        )
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (exchange := exchange_of(scope)) is not None:
            exchange.note_code(self._code)
        await super().__call__(scope, receive, send)


def error_response(error: RequestError) -> RefusalResponse:
    """The answer for an error."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = f'ApiKey header="{HEADER}"'
    return RefusalResponse(error.message, error.code, status=error.status, headers=headers)
