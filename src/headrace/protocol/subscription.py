"""Which events of a thread a client wants: channels, namespaces, depth, and after which number."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.errors import BadRequest

CHANNELS = (
    "values",
    "updates",
    "messages",
    "tools",
    "custom",
    "lifecycle",
    "input",
    "tasks",
    "checkpoints",
)
#: What the name of a channel for values with one name begins with.
CUSTOM = "custom:"

_MAX_CHANNELS = 100
_MAX_NAMESPACES = 1000
_MAX_SEGMENTS = 64
_MAX_CHARACTERS = 1000
#: A larger number is not exact in JavaScript.
MAX_NUMBER = 2**53 - 1

Namespace = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    :ivar namespaces: only events at or below one of these; None: of all.
    :ivar depth: how many levels below them; None: all. Clients that follow some namespaces and all
        others send the depth of the former, without namespaces; it bounds nothing then.
    :ivar since: only events with higher numbers; None: the runs that go on, or the last one.
    """

    channels: Collection[str]
    namespaces: Sequence[Namespace] | None = None
    depth: int | None = None
    since: int | None = None

    @property
    def is_of_control(self) -> bool:
        """Whether the client wants to know only when runs begin, ask and end."""
        return self.since is None and set(self.channels) <= {"lifecycle", "input"}

    def wants(self, channel: str, namespace: Namespace) -> bool:
        """Whether the client gets an event."""
        if channel not in self.channels and not (
            channel.startswith(CUSTOM) and "custom" in self.channels
        ):
            return False
        return not self.namespaces or any(
            _is_below(namespace, prefix)
            and (self.depth is None or len(namespace) - len(prefix) <= self.depth)
            for prefix in self.namespaces
        )


def subscription_of(given: Any) -> Subscription:
    """The subscription that a client has sent.

    :raises BadRequest: the message says what to change.
    """
    if not isinstance(given, Mapping):
        raise BadRequest('Send an object with channels, such as {"channels": ["values"]}.')
    return Subscription(
        _channels(given.get("channels")),
        _namespaces(given.get("namespaces")),
        _whole(given.get("depth"), "depth", 1000),
        _whole(given.get("since"), "since", MAX_NUMBER),
    )


def _channels(given: Any) -> frozenset[str]:
    if not isinstance(given, list) or not given:
        raise BadRequest("channels is required and must be a non-empty array.")
    if len(given) > _MAX_CHANNELS:
        raise BadRequest(f"channels: name at most {_MAX_CHANNELS}.")
    if unknown := [one for one in given if not _is_channel(one)]:
        told = str(unknown[0])[:100]
        raise BadRequest(
            f"channels contains unsupported entries: {told}. Allowed: {', '.join(CHANNELS)}, or any"
            f" `{CUSTOM}<name>`."
        )
    return frozenset(given)


def _is_channel(given: Any) -> bool:
    if not isinstance(given, str) or len(given) > _MAX_CHARACTERS:
        return False
    return given in CHANNELS or (given.startswith(CUSTOM) and given != CUSTOM)


def _namespaces(given: Any) -> Sequence[Namespace] | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) > _MAX_NAMESPACES:
        raise BadRequest(f"namespaces: send an array of at most {_MAX_NAMESPACES} namespaces.")
    return [namespace_of(one, "namespaces") for one in given] or None


def namespace_of(given: Any, where: str) -> Namespace:
    """:raises BadRequest: it is no array of texts."""
    if (
        not isinstance(given, list)
        or len(given) > _MAX_SEGMENTS
        or not all(isinstance(one, str) and len(one) <= _MAX_CHARACTERS for one in given)
    ):
        raise BadRequest(
            f'{where}: a namespace is an array of texts, such as ["child:<task id>"], or [] for the'
            " graph itself."
        )
    return tuple(given)


def _whole(given: Any, where: str, most: int) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= most:
        raise BadRequest(f"{where}: send a whole number from 0 to {most}, or leave it out.")
    return given


def _is_below(namespace: Namespace, prefix: Namespace) -> bool:
    """Whether the namespace begins with the prefix. A segment without an id stands for any id."""
    if len(prefix) > len(namespace):
        return False
    return all(
        has == wants or (":" not in wants and has.partition(":")[0] == wants)
        for has, wants in zip(namespace, prefix, strict=False)
    )
