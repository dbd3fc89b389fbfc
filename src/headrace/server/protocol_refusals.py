"""What the server answers to a request, or a part of one, that it does not take.

headrace's middleware has not seen these requests: the connection itself answers.
"""

from dataclasses import dataclass

from headrace.server.connections import Limits


@dataclass(frozen=True, slots=True)
class ProtocolRefusal:
    status: int
    code: str
    detail: str
    #: The reason in the metric.
    reason: str


def bad(detail: str) -> ProtocolRefusal:
    return ProtocolRefusal(400, "bad_request", detail, "invalid")


def late(part: str, seconds: float, reason: str) -> ProtocolRefusal:
    """:param part: of the request: ``head`` or ``body``."""
    return ProtocolRefusal(
        408,
        "request_timeout",
        f"The request's {part} did not come within {seconds:g} s"
        f" (setting server.{reason}_seconds).",
        reason,
    )


def line_too_long(limits: Limits) -> ProtocolRefusal:
    return ProtocolRefusal(
        414,
        "request_line_too_long",
        f"The request's URL is longer than {limits.max_request_line_bytes} bytes"
        " (setting server.max_request_line_bytes).",
        "too_large",
    )


def too_many_headers(limits: Limits) -> ProtocolRefusal:
    return ProtocolRefusal(
        431,
        "too_many_headers",
        f"The request has more than {limits.max_headers} headers or trailers"
        " (setting server.max_headers).",
        "too_large",
    )


def headers_too_large(limits: Limits) -> ProtocolRefusal:
    return ProtocolRefusal(
        431,
        "headers_too_large",
        f"The request's headers are larger than {limits.max_header_bytes} bytes"
        " (setting server.max_header_bytes).",
        "too_large",
    )


def too_many_connections(most: int) -> ProtocolRefusal:
    return ProtocolRefusal(
        503,
        "too_many_connections",
        f"This process has {most} connections, all of them at work (setting"
        " server.max_connections); try again.",
        "refused",
    )
