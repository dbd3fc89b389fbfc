"""Places for calls, shared by callers and by receivers, so that neither a receiver that hangs nor a
caller with many messages delays the others.

A receiver may hold a share of its own and the free places (``headrace.shares``). Receivers that are
not known to answer share half of all places: a receiver is known after its call was answered in
time, and until one was not. So neither several receivers that hang, nor any number of host names of
one of them, take the places of those that work.

A caller may hold a share too, of all places and of that half: it may have any number of host names,
each of which answers late. What a receiver does counts for one caller alone. Else a caller could
make a receiver of others unknown, with URLs of that host that do not answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.shares import Places, Share

#: Receivers that are remembered to answer, the latest ones.
_REMEMBERED = 1000


def receiver_key(caller: str, receiver: str) -> str:
    """The name of a receiver of one caller."""
    return f"{caller}\n{receiver}"


@dataclass(frozen=True, slots=True)
class CallBounds:
    """Whose messages get no call now.

    :ivar full: callers.
    :ivar busy: receivers, by their keys.
    :ivar bounded: callers that get calls to receivers of ``known`` alone; None: all callers.
    """

    full: Sequence[str] = ()
    busy: Sequence[str] = ()
    bounded: Sequence[str] | None = ()
    known: Sequence[str] = ()


class _Shared:
    """Places that a call takes for its caller and for its receiver."""

    def __init__(self, total: int, share: float, share_of_caller: Share) -> None:
        self.by_receiver = Places(total, share)
        self.by_caller = Places(total, share_of_caller)

    @property
    def free(self) -> int:
        return self.by_receiver.free

    def allows(self, caller: str, key: str) -> bool:
        return bool(self.by_caller.allowance(caller) and self.by_receiver.allowance(key))

    def hold(self, caller: str, key: str) -> None:
        self.by_caller.hold(caller)
        self.by_receiver.hold(key)

    def callers_without_place(self) -> list[str]:
        return [one for one in self.by_caller.callers() if not self.by_caller.allowance(one)]

    def release(self, caller: str, key: str) -> None:
        self.by_caller.release(caller)
        self.by_receiver.release(key)


@dataclass(frozen=True, slots=True)
class ReceiverPlace:
    """A place that a call holds.

    :ivar key: of :func:`receiver_key`.
    :ivar of: where it is counted.
    """

    caller: str
    key: str
    of: tuple[_Shared, ...]


class ReceiverPlaces:
    """The places of one process.

    :param total: the calls that it makes at once.
    :param share: the part of its own and the free places that a receiver may hold.
    :param most: the places that a receiver may hold at most.
    :param share_of_caller: the part that a caller may hold.
    """

    def __init__(
        self, total: int, *, share: float, most: int, share_of_caller: Share | None = None
    ) -> None:
        whole = share_of_caller or Share()
        self._all = _Shared(total, share, whole)
        self._unknown = _Shared(max(1, total // 2), share, whole)
        self._most = most
        #: Receivers that have answered their last call, the latest one last.
        self._known: dict[str, None] = {}

    @property
    def free(self) -> int:
        return self._all.free

    def take(self, caller: str, receiver: str) -> ReceiverPlace | None:
        """Take a place, if caller and receiver may; give it back with :meth:`release`."""
        key = receiver_key(caller, receiver)
        counted = self._counted(key)
        if not self._allows(caller, key, counted):
            return None
        for places in counted:
            places.hold(caller, key)
        return ReceiverPlace(caller, key, counted)

    def release(self, place: ReceiverPlace, *, answered: bool | None) -> None:
        """Give a place back.

        :param answered: whether the receiver has answered in time; None: nobody knows.
        """
        for places in place.of:
            places.release(place.caller, place.key)
        if answered is not None:
            self._known.pop(place.key, None)
        if answered:
            self._known[place.key] = None
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]

    def bounds(self) -> CallBounds:
        """Whose messages need not be looked for now."""
        holding = self._all.by_receiver.callers()
        bounded = self._unknown.callers_without_place() if self._unknown.free else None
        return CallBounds(
            full=self._all.callers_without_place(),
            busy=[key for key in holding if not self._allows(_caller_of(key), key)],
            bounded=bounded,
            known=list(self._known) if bounded is None or bounded else (),
        )

    def _counted(self, key: str) -> tuple[_Shared, ...]:
        return (self._all,) if key in self._known else (self._all, self._unknown)

    def _allows(self, caller: str, key: str, counted: Iterable[_Shared] | None = None) -> bool:
        if self._all.by_receiver.held_by(key) >= self._most:
            return False
        return all(one.allows(caller, key) for one in counted or self._counted(key))


def _caller_of(key: str) -> str:
    return key.partition("\n")[0]
