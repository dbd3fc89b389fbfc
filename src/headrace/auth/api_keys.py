"""API keys from the settings: they admit a caller, and do not yet tell one from another."""

import hashlib
import hmac
from collections.abc import Iterable

from headrace.errors import Unauthenticated

#: What langgraph-sdk sends its ``api_key`` in.
HEADER = "x-api-key"


class ApiKeys:
    """The keys that open this server; without any it is open to everyone.

    Only digests are kept, and each is compared, in constant time: how long an answer takes tells
    nothing about a key.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def check(self, presented: str | None) -> None:
        """
        :raises Unauthenticated: a key is needed and ``presented`` is none of them.
        """
        if not self._digests:
            return
        if presented is None:
            raise Unauthenticated(f"Send an API key in the header {HEADER}.")
        digest = _digest(presented)
        # All of them are compared, whichever is the right one.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Unauthenticated(f"The API key in the header {HEADER} is not known here.")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
