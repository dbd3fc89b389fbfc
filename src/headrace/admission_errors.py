"""Refusals of requests by who sends them, and from where, before anything is done for them."""

from headrace.errors import Forbidden, RequestError, TooManyRequests
from headrace.unavailable_errors import Unavailable


class HostRefused(Forbidden):
    """This server does not have the name that Host gives it; ask for localhost, or name it in
    HEADRACE_EDGE__ALLOWED_HOSTS.
    """

    code = "host_refused"


class PageRefused(Forbidden):
    """Web pages of this origin may not use this server; name it in HEADRACE_EDGE__ALLOWED_ORIGINS,
    or in http.cors of langgraph.json.
    """

    code = "page_refused"


class ReadOnly(Forbidden):
    """This key or token may only read; this request needs the scope write."""

    code = "read_only"


class WebSocketsOff(Forbidden):
    """This server takes no WebSockets (setting server.websockets); read server-sent events."""

    code = "websockets_off"


class StrangerRefused(Forbidden):
    """This server has no API keys, so it answers only callers on its own machine.

    Set HEADRACE_API_KEYS and send a key as x-api-key. If a proxy authenticates the callers, set
    HEADRACE_AUTH=none.
    """

    code = "stranger_refused"

    def __init__(self) -> None:
        super().__init__(" ".join((type(self).__doc__ or "").split()))


class JSONRequired(RequestError):
    """This server may know callers without a key, so it takes bodies only with the header
    Content-Type: application/json: a web page cannot send this without asking.
    """

    status = 415
    code = "json_required"


class RateLimited(TooManyRequests):
    """This caller sends more requests than it may."""

    code = "rate_limited"

    def __init__(self, per_second: float = 1.0, retry_after_seconds: int = 1) -> None:
        super().__init__(
            f"You send more than {per_second:g} requests a second to this process (setting"
            f" callers.requests_per_second); send fewer, or try again in {retry_after_seconds} s."
        )
        self.retry_after_seconds = retry_after_seconds


class IssuerUnavailable(Unavailable):
    """The keys of the token issuer cannot be fetched now; try again, or send an API key."""

    code = "issuer_unavailable"
    retry_after_seconds = 5
