"""Users that ``authenticate`` has returned, by headers: ``auth.cache`` of ``langgraph.json``."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from time import monotonic

from headrace.auth.principal import Principal

#: The digest of the headers that tell users apart.
CacheKey = bytes


class HandlerCache:
    """Remembers users; one per process. Headers are kept as digests.

    :param headers: the names of the headers that tell users apart.
    :param seconds: how long a user is remembered.
    :param most: so many users; then the one that was used longest ago is forgotten.
    """

    def __init__(self, headers: Iterable[str], *, seconds: float, most: int) -> None:
        self._names = [name.lower().encode("latin-1") for name in headers]
        self._seconds = seconds
        self._most = most
        self._known: OrderedDict[CacheKey, tuple[float, Principal]] = OrderedDict()

    def key_of(self, headers: Sequence[tuple[bytes, bytes]]) -> CacheKey | None:
        """The key of a request; None: it has none of the headers, so nothing tells its user."""
        digest, found = sha256(), False
        for name in self._names:
            values = [value for one, value in headers if one.lower() == name]
            found = found or bool(values)
            digest.update(b"%d:" % len(values))
            for value in values:
                digest.update(b"%d:%b" % (len(value), value))
        return digest.digest() if found else None

    def get(self, key: CacheKey | None) -> Principal | None:
        """The user of this key, if it is remembered."""
        found = None if key is None else self._known.get(key)
        if key is None or found is None:
            return None
        until, principal = found
        if until <= monotonic():
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return principal

    def put(self, key: CacheKey | None, principal: Principal) -> None:
        """Remember a user."""
        if key is None:
            return
        self._known[key] = (monotonic() + self._seconds, principal)
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
