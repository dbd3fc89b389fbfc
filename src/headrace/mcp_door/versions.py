"""The versions of MCP, and what a request of the newest one must say of itself.

Up to 2025-11-25 a client begins with ``initialize``. From 2026-07-28 on each request stands alone:
its ``_meta`` names the version and the client, and headers repeat method and name, so that a proxy
can tell requests apart without reading bodies.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from headrace.doors.json_rpc import INVALID_PARAMS, RpcCall, RpcError

#: The versions that begin with ``initialize``, oldest first.
HANDSHAKES = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"

HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022

_VERSION_HEADER = "mcp-protocol-version"
_META = "io.modelcontextprotocol/"
_ENCODED = re.compile(r"=\?base64\?(.*)\?=")


def negotiated(params: Mapping[str, Any]) -> str:
    """The version that ``initialize`` agrees on: the client's, or the newest that has it."""
    asked = params.get("protocolVersion")
    return asked if asked in HANDSHAKES else HANDSHAKES[-1]


def names_newer(headers: Mapping[str, str]) -> bool:
    """Whether a request names a version after those that begin with ``initialize``."""
    version = headers.get(_VERSION_HEADER)
    return version is not None and version not in HANDSHAKES


def is_modern(call: RpcCall, headers: Mapping[str, str]) -> bool:
    """Whether the call is of the newest version.

    :raises RpcError: it is of no version that headrace has, or contradicts itself.
    """
    version = headers.get(_VERSION_HEADER)
    meta = call.params.get("_meta")
    named = meta.get(f"{_META}protocolVersion") if isinstance(meta, Mapping) else None
    if version is None and named is not None:
        raise RpcError(HEADER_MISMATCH, f"send the header {_VERSION_HEADER} too")
    if version is None or version in HANDSHAKES:
        return False
    if not call.wants_answer:
        return version == MODERN
    if named is None or not isinstance(meta, Mapping) or f"{_META}clientCapabilities" not in meta:
        _refuse_unknown(version)
        raise RpcError(
            INVALID_PARAMS,
            f"params._meta: send {_META}protocolVersion and {_META}clientCapabilities",
        )
    _compare(headers, _VERSION_HEADER, named, "the version in params._meta")
    _refuse_unknown(version)
    _compare(headers, "mcp-method", call.method, "the method of the body")
    if call.method == "tools/call":
        _compare(headers, "mcp-name", call.params.get("name"), "params.name")
    return True


def _refuse_unknown(version: str) -> None:
    if version != MODERN:
        raise RpcError(
            UNSUPPORTED_VERSION,
            "Unsupported protocol version",
            {"supported": [*HANDSHAKES, MODERN], "requested": version},
        )


def _compare(headers: Mapping[str, str], name: str, value: Any, what: str) -> None:
    if _decoded(headers.get(name)) != value:
        raise RpcError(HEADER_MISMATCH, f"the header {name} differs from {what}")


def _decoded(value: str | None) -> str | None:
    """The text of a header: one that is no plain ASCII comes in base64."""
    found = _ENCODED.fullmatch(value or "")
    if found is None:
        return value
    try:
        return base64.b64decode(found[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
