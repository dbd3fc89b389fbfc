"""Errors in OpenAI's form."""

from collections.abc import Mapping
from typing import Any

from headrace.events.reader import CutReason

#: OpenAI's types of errors by status; all other refusals are of the last type.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_FIRST_FAULT = 500

_CUTS = {
    "drain": "This server ends before the reply is whole; send the request again.",
    "slow_client": "The reply was taken too slowly, and a part of it is dropped.",
}
_OTHER_CUT = "The reply cannot be told to its end here; send the request again."


def error_body(message: str, code: str, status: int, param: str | None = None) -> dict[str, Any]:
    """The body of a refusal.

    :param code: headrace's own code (docs/request-errors.md).
    """
    usual = "server_error" if status >= _FIRST_FAULT else "invalid_request_error"
    kind = _TYPES.get(status, usual)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def run_error(error: Mapping[str, Any]) -> dict[str, Any]:
    """The body for a run that has failed."""
    message = f"{error.get('error')}: {error.get('message')}"
    return error_body(message, "run_failed", _FIRST_FAULT)


def cut_message(reason: CutReason) -> str:
    """Why a stream ends before its run."""
    return _CUTS.get(reason, _OTHER_CUT)


def cut_error(reason: CutReason) -> dict[str, Any]:
    """The body for a stream that ends before its run."""
    return error_body(cut_message(reason), "reply_cut", _FIRST_FAULT)
