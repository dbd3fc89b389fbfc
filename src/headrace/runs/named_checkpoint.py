"""The checkpoint that a caller names for a run. A request has three places for it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import InvalidRequest
from headrace.graphs.configuration import checked_checkpoint
from headrace.ids import canonical_uuid
from headrace.runs.schemas import RunCreate


@dataclass(frozen=True, slots=True)
class NamedCheckpoint:
    """
    :ivar ids: checkpoint ids by namespace; the thread's own checkpoint has the empty namespace.
    """

    ids: Mapping[str, str]
    #: For LangGraph's ``configurable``.
    configurable: Mapping[str, Any]

    @property
    def root(self) -> str | None:
        """The thread's own checkpoint; None if the request names a checkpoint of a subgraph."""
        return self.ids.get("") if len(self.ids) == 1 else None


def named_checkpoint(body: RunCreate, thread_id: str | None) -> NamedCheckpoint | None:
    """The checkpoint that the body names; None when it names none.

    :raises InvalidRequest: a value cannot name a checkpoint; or the body names two checkpoints, a
        part of a subgraph's checkpoint, or another thread.
    """
    configurable = (body.config or {}).get("configurable")
    if not (body.checkpoint_id or body.thread_id or body.checkpoint or configurable):
        return None
    named: dict[str, Any] = {}
    for where, given in _places(body):
        _refuse_other_thread(where, given.get("thread_id"), thread_id)
        try:
            found = checked_checkpoint(dict(given), where)
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        for key, value in found.items():
            if named.setdefault(key, value) != value:
                raise InvalidRequest(f"{where}{key} names another checkpoint than the request does")
    namespace, by_namespace = named.get("checkpoint_ns") or "", named.get("checkpoint_map") or {}
    checkpoint_id = named.get("checkpoint_id")
    if not namespace:
        if by_namespace:
            own = by_namespace.get("")
            if set(by_namespace) != {""} or checkpoint_id not in (None, own):
                raise InvalidRequest(
                    "checkpoint_map goes with the checkpoint_ns of a subgraph: send the checkpoint"
                    " as its state shows it, or the checkpoint_id alone"
                )
            checkpoint_id = own
        if checkpoint_id is None:
            return None
        # LangGraph reads ``checkpoint_map`` only for subgraphs.
        return NamedCheckpoint({"": checkpoint_id}, {"checkpoint_id": checkpoint_id})
    if "" not in by_namespace:
        raise InvalidRequest(
            f"checkpoint_ns names the subgraph {namespace}: send its checkpoint whole, with the"
            " checkpoint_map that its state shows"
        )
    if checkpoint_id is not None and by_namespace.get(namespace, checkpoint_id) != checkpoint_id:
        raise InvalidRequest("checkpoint_id and checkpoint_map name two checkpoints")
    if checkpoint_id is not None:
        by_namespace = {**by_namespace, namespace: checkpoint_id}
    return NamedCheckpoint(
        by_namespace, {"checkpoint_ns": namespace, "checkpoint_map": by_namespace}
    )


def _places(body: RunCreate) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "", {"checkpoint_id": body.checkpoint_id, "thread_id": body.thread_id}
    yield "checkpoint.", body.checkpoint or {}
    yield "config.configurable.", (body.config or {}).get("configurable") or {}


def _refuse_other_thread(where: str, named: Any, thread_id: str | None) -> None:
    if not named or named == thread_id:
        return
    if thread_id is None:
        raise InvalidRequest(
            f"{where}thread_id: this run gets a thread of its own; send it to"
            " /threads/{thread_id}/runs, or leave thread_id out"
        )
    own = canonical_uuid(thread_id) or thread_id
    if not isinstance(named, str) or (canonical_uuid(named) or named) != own:
        raise InvalidRequest(
            f"{where}thread_id is {named}, but the path names thread {thread_id}; send the run to"
            " that thread, or leave thread_id out"
        )
