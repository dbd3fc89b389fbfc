"""JSON-RPC 2.0, which two doors speak: its calls, its answers and its errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import (
    HeadraceError,
    MalformedJSON,
    RequestError,
)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

#: The caller is not let in. JSON-RPC leaves numbers from -32000 down to servers; neither protocol
#: uses this one.
NOT_ADMITTED = -32000

_FIRST_FAULT = 500
_NOT_ADMITTED_STATUSES = (401, 403)
_TOO_MANY = 429


class RpcError(HeadraceError):
    """A call cannot be carried out.

    :ivar number: the code of JSON-RPC or of the protocol.
    """

    def __init__(self, number: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.number = number
        self.data = data


@dataclass(frozen=True, slots=True)
class RpcCall:
    """One call. ``call_id`` is None for a notification, which gets no answer."""

    method: str
    params: Mapping[str, Any]
    call_id: str | int | float | None
    wants_answer: bool


def rpc_call(body: Any) -> RpcCall:
    """
    :raises RpcError: the body is no call; several calls in one body are none either.
    """
    if isinstance(body, bytes):
        raise RpcError(
            INVALID_REQUEST,
            "Send the body as JSON with the header Content-Type: application/json.",
        )
    if not isinstance(body, Mapping) or body.get("jsonrpc") != "2.0":
        raise RpcError(
            INVALID_REQUEST, 'Send one JSON-RPC call: an object with "jsonrpc": "2.0" and a method.'
        )
    method, params, call_id = body.get("method"), body.get("params"), body.get("id")
    if not isinstance(method, str):
        raise RpcError(INVALID_REQUEST, "method: send a text")
    if isinstance(call_id, bool) or not isinstance(call_id, str | int | float | None):
        raise RpcError(INVALID_REQUEST, "id: send a text or a number")
    if not isinstance(params, Mapping | None):
        raise RpcError(INVALID_PARAMS, "params: send an object")
    return RpcCall(method, params or {}, call_id, wants_answer="id" in body)


def id_of(body: Any) -> Any:
    """The id of a body that may be no call; None if it has none that an answer can repeat."""
    found = body.get("id") if isinstance(body, Mapping) else None
    return found if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def rpc_result(call_id: Any, result: Any) -> dict[str, Any]:
    """An answer."""
    return {"jsonrpc": "2.0", "id": call_id, "result": result}


def rpc_error(call_id: Any, error: RpcError) -> dict[str, Any]:
    """A refusal."""
    told: dict[str, Any] = {"code": error.number, "message": error.message}
    if error.data is not None:
        told["data"] = error.data
    return {"jsonrpc": "2.0", "id": call_id, "error": told}


def as_rpc_error(error: RequestError, message: str | None = None) -> RpcError:
    """A refusal of headrace as an error of JSON-RPC; ``data.code`` is headrace's own code."""
    if isinstance(error, MalformedJSON):
        number = PARSE_ERROR
    elif error.status in _NOT_ADMITTED_STATUSES:
        number = NOT_ADMITTED
    elif error.status == _TOO_MANY or error.status >= _FIRST_FAULT:
        # Nothing is wrong with the parameters: the call may be made again.
        number = INTERNAL_ERROR
    else:
        number = INVALID_PARAMS
    return RpcError(number, message or error.message, {"code": error.code})
