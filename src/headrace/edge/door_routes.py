"""The route class of doors: APIs of other protocols, with clients that are made for those."""

from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import Request, Response

from headrace.auth.api_keys import HEADER, bearer_of
from headrace.edge.refusals import RefusalResponse, headers_of_error, short_detail
from headrace.edge.routing import HeadraceRoute
from headrace.errors import RequestError, Unauthenticated

_AUTHORIZATION = "authorization"
_CHALLENGES = "WWW-Authenticate"


class DoorRoute(HeadraceRoute):
    """Tells that the key may come as ``Authorization: Bearer`` too, and answers errors as the
    protocol has them.

    A subclass gives the form. ``statuses`` has the protocol's own status for some of headrace's.
    """

    statuses: ClassVar[Mapping[int, int]] = {}

    def refusal(self, error: RequestError, request: Request) -> Response:
        detail, headers = error.message, headers_of_error(error)
        if isinstance(error, Unauthenticated):
            bearer = bearer_of(request.headers.get(_AUTHORIZATION))
            refused = bearer is not None and not request.headers.get(HEADER)
            if refused:
                detail = detail.replace(f"the header {HEADER}", "the header Authorization")
            else:
                detail += " Authorization: Bearer KEY is read here too."
            told = headers.get(_CHALLENGES, "")
            if "Bearer" not in told:
                headers[_CHALLENGES] = ", ".join(filter(None, (_challenge(refused=refused), told)))
        return RefusalResponse(
            detail,
            error.code,
            status=self.statuses.get(error.status, error.status),
            headers={**headers, **self.more_headers(error)},
            body=self.form(short_detail(detail), error.code, error, request),
        )

    def more_headers(self, error: RequestError) -> Mapping[str, str]:
        """Headers that the protocol adds to a refusal."""
        return {}

    def form(self, detail: str, code: str, error: RequestError, request: Request) -> Any:
        """The body of a refusal."""
        return {"detail": detail, "code": code}


def _challenge(*, refused: bool) -> str:
    """How clients of these protocols may say who they are (RFC 6750)."""
    return 'Bearer realm="headrace"' + (', error="invalid_token"' if refused else "")
