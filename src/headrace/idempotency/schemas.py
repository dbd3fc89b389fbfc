"""What a request says that must not be done twice."""

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class RequestKey:
    """One POST and its retries. ``route`` is the path with its ids: threads have keys apart."""

    route: str
    key: str
    body_sha256: bytes

    @classmethod
    def of(cls, route: str, key: str, body: bytes) -> "RequestKey":
        return cls(route=route, key=key, body_sha256=sha256(body).digest())

    def part(self, number: int) -> "RequestKey":
        """The key of one of several things that a request makes."""
        return RequestKey(f"{self.route}#{number}", self.key, self.body_sha256)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The id under which the request makes its run or thread, whoever handles it.

    ``made``: an earlier try has made it. ``resumed``: an earlier try may have.
    """

    resource_id: UUID
    made: bool
    resumed: bool = False
