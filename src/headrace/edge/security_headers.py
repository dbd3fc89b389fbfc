"""Headers of the API's answers that tell browsers to be careful with them.

An answer is data: no browser is to guess another type for it, to show it in a frame, to load
anything for it, or to keep it. Pages for people bring a policy of their own (``server/pages.py``).
The answers of a user's app are left as they are.
"""

from collections.abc import Iterable

_Pair = tuple[bytes, bytes]

_POLICY = b"content-security-policy"
_ALWAYS: tuple[_Pair, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (_POLICY, b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class SecurityHeaders:
    """
    :param hsts_seconds: for which browsers ask this host by HTTPS alone; 0: they are not told.
    """

    def __init__(self, hsts_seconds: int = 0) -> None:
        self._pairs = _ALWAYS
        if hsts_seconds:
            told = b"max-age=%d" % hsts_seconds
            self._pairs = (*_ALWAYS, (b"strict-transport-security", told))

    def missing(self, names: Iterable[bytes]) -> list[_Pair]:
        """Those that an answer does not have yet.

        :param names: the names of its headers, in lower case.
        """
        there = set(names)
        return [pair for pair in self._pairs if pair[0] not in there]
