"""The events of a run that was started through the streaming protocol v3, as they are stored.

Each event is named ``v3/<method>``, with the namespace behind it, as in ``v3/values|child:<id>``.
Its value is the ``params`` of the protocol's event. What depends on the thread, its sequence number
above all, is added when a client reads it (``headrace.protocol``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import time
from typing import Any

import orjson
from langchain_core.messages import AIMessageChunk, BaseMessage, message_chunk_to_message

from headrace.checkpoints.upstream import block_events
from headrace.events.json_encoding import encode_json
from headrace.events.modes import Moment, NamedValue

#: What the names of these events begin with.
PREFIX = "v3/"

#: The stream modes that LangGraph is asked for.
PROTOCOL_MODES = ("checkpoints", "custom", "messages", "tasks", "tools", "updates", "values")

#: Messages of other kinds are the model's. Results of tools have a channel of their own.
_ROLES = {"human": "human", "system": "system"}

_INTERRUPT = "__interrupt__"

#: Characters of the name of a custom channel.
_MAX_NAME = 255

Namespace = tuple[str, ...]


class ProtocolTranslator:
    """Translates the chunks of one attempt of a run. Encode what it gives before the next call.

    :param answered: the ids of the interrupts that the run answers.
    """

    def __init__(self, graph_id: str, answered: Iterable[str] = ()) -> None:
        self._graph_id = graph_id
        self._answered = list(answered)
        self._messages = _Messages()
        self._subgraphs = _Subgraphs()
        #: Values wait for the checkpoint that LangGraph tells after them: clients want it before.
        self._held: NamedValue | None = None
        #: Where each interrupt was raised.
        self._raised: dict[str, Namespace] = {}

    def shows(self, mode: str) -> bool:
        """Whether chunks of this mode become events."""
        return mode in PROTOCOL_MODES

    def at(self, moment: Moment, told: Any = None) -> Sequence[NamedValue]:
        """The events of a moment of the graph itself.

        :param told: when it fails, the message; when it waits, the interrupts by task, as threads
            show them.
        """
        if moment == "begins":
            return self._begun()
        if moment == "waits":
            return self._waiting(told or {})
        if moment == "stops":
            return self._released()
        status = "completed" if moment == "ends" else "failed"
        return [*self._released(), *self._subgraphs.ended(status, told)]

    def events(self, namespace: Namespace, mode: str, chunk: Any) -> Sequence[NamedValue]:
        """The events of a chunk, in order."""
        if mode == "values":
            told = self._released()
            self._held = _named(mode, namespace, _encoded(_without_interrupts(chunk)))
            return told
        told = list(self._translated(namespace, mode, chunk))
        if mode == "checkpoints" and self._held is not None:
            return [*told, *self._released()]
        return [*self._released(), *told]

    def _begun(self) -> Sequence[NamedValue]:
        if not self._answered:
            return ()
        return (_named("input.answered", (), {"interrupt_ids": self._answered}),)

    def _waiting(self, by_task: Mapping[str, Any]) -> Sequence[NamedValue]:
        """The questions, and that the graph waits."""
        asked = [one for some in by_task.values() for one in some]
        waits = {"event": "interrupted", "graph_name": self._graph_id}
        return [*map(self._question, asked), _named("lifecycle", (), waits)]

    def _question(self, asked: Mapping[str, Any]) -> NamedValue:
        # Clients read ``payload``; that of Python reads ``value``.
        data = {"interrupt_id": asked["id"], "payload": asked["value"], "value": asked["value"]}
        return _named("input.requested", self._raised.get(asked["id"], ()), data)

    def _translated(self, namespace: Namespace, mode: str, chunk: Any) -> Iterator[NamedValue]:
        if mode == "messages":
            yield from self._messages.events(namespace, *chunk)
        elif mode == "tasks":
            yield _named(mode, namespace, chunk)
            yield from self._subgraphs.events(namespace, chunk)
        elif mode == "checkpoints":
            yield _named(mode, namespace, _checkpoint(chunk))
        elif mode == "custom":
            yield _custom(namespace, chunk)
        elif mode == "updates":
            yield from self._updates(namespace, chunk)
        elif mode == "tools":
            yield _named(mode, namespace, chunk)

    def _updates(self, namespace: Namespace, chunk: Any) -> Iterator[NamedValue]:
        if not isinstance(chunk, dict):
            return
        for node, values in chunk.items():
            if node == _INTERRUPT:
                self._note_raised(namespace, values)
            elif node != "__metadata__":
                yield _named("updates", namespace, {"node": node, "values": values})

    def _note_raised(self, namespace: Namespace, interrupts: Any) -> None:
        """An interrupt of a subgraph is told for each graph around it: the innermost raised it."""
        for one in interrupts if isinstance(interrupts, Sequence) else ():
            known = self._raised.get(one.id, ())
            if len(namespace) >= len(known):
                self._raised[one.id] = namespace

    def _released(self) -> list[NamedValue]:
        held, self._held = self._held, None
        return [] if held is None else [held]


@dataclass(slots=True)
class _Messages:
    """The messages that are being streamed, by the run of their model."""

    _open: dict[str, str] = field(default_factory=dict)
    _left_out: set[str] = field(default_factory=set)

    def events(
        self, namespace: Namespace, message: Any, metadata: Mapping[str, Any]
    ) -> Iterator[NamedValue]:
        node = metadata.get("langgraph_node")
        if isinstance(message, dict):
            data = self._routed(message, str(metadata.get("run_id", "")))
            if data is not None:
                yield _named("messages", namespace, data, node=node)
        elif isinstance(message, BaseMessage) and message.type != "tool":
            for data in _replayed(message):
                yield _named("messages", namespace, data, node=node)

    def _routed(self, event: dict[str, Any], run_id: str) -> dict[str, Any] | None:
        """The event with what tells it from those of other messages; None for a tool's result."""
        kind = event.get("event")
        if kind == "message-start":
            if event.get("role") == "tool":
                self._left_out.add(run_id)
                return None
            self._open[run_id] = str(event.get("id") or event.get("message_id") or "")
            return {**event, "id": self._open[run_id], "run_id": run_id}
        ends = kind in ("message-finish", "error")
        if run_id in self._left_out:
            if ends:
                self._left_out.discard(run_id)
            return None
        several = len(self._open) > 1
        message_id = self._open.pop(run_id, "") if ends else self._open.get(run_id, "")
        # Most often there is one message at a time, and each token would carry both ids.
        return {**event, "run_id": run_id, "message_id": message_id} if several else event


def _replayed(message: BaseMessage) -> Iterator[dict[str, Any]]:
    """The events of a whole message, as if it had been streamed."""
    whole = message_chunk_to_message(message) if isinstance(message, AIMessageChunk) else message
    for event in block_events(whole):
        data: dict[str, Any] = dict(event)
        if data["event"] == "message-start":
            data["role"] = _ROLES.get(whole.type, "ai")
            data["id"] = whole.id or ""
        yield data


@dataclass(slots=True)
class _Subgraphs:
    """Subgraphs begin with their first task, and end with the task that has called them."""

    #: The task that has called each open subgraph.
    _callers: dict[Namespace, str] = field(default_factory=dict)
    _names: dict[Namespace, str] = field(default_factory=dict)
    #: Ids of tool calls, by the task that carries them out.
    _tool_calls: dict[str, str] = field(default_factory=dict)

    def events(self, namespace: Namespace, task: Mapping[str, Any]) -> Iterator[NamedValue]:
        if "result" in task:
            yield from self._results(namespace, task)
            return
        self._note_tool_call(task)
        if namespace and namespace not in self._names:
            yield from self._started(namespace, task)

    def ended(self, status: str, error: str | None = None) -> list[NamedValue]:
        """All that are open end so. Inner ones come first."""
        innermost = sorted(self._callers, key=len, reverse=True)
        return [self._end(namespace, status, error) for namespace in innermost]

    def _started(self, namespace: Namespace, task: Mapping[str, Any]) -> Iterator[NamedValue]:
        node, _, caller = namespace[-1].partition(":")
        agent = (task.get("metadata") or {}).get("lc_agent_name")
        self._names[namespace] = agent or node
        if not caller:
            return
        self._callers[namespace] = caller
        data = {
            "event": "started",
            "namespace": list(namespace),
            "graph_name": agent or node,
            "trigger_call_id": caller,
        }
        if agent and caller in self._tool_calls:
            data["cause"] = {"type": "toolCall", "tool_call_id": self._tool_calls[caller]}
        yield _named("lifecycle", namespace, data)

    def _results(self, namespace: Namespace, task: Mapping[str, Any]) -> Iterator[NamedValue]:
        status = "failed" if task.get("error") else "completed"
        if task.get("interrupts"):
            status = "interrupted"
        error = str(task["error"]) if status == "failed" else None
        for child, caller in list(self._callers.items()):
            if child[:-1] == namespace and caller == task.get("id"):
                yield self._end(child, status, error)

    def _end(self, namespace: Namespace, status: str, error: str | None) -> NamedValue:
        del self._callers[namespace]
        data = {"event": status, "graph_name": self._names[namespace]}
        return _named("lifecycle", namespace, data if error is None else {**data, "error": error})

    def _note_tool_call(self, task: Mapping[str, Any]) -> None:
        """A task for one tool call has the call in its input."""
        given = task.get("input")
        call = given.get("tool_call") if isinstance(given, Mapping) else None
        call_id = call.get("id") if isinstance(call, Mapping) else None
        if isinstance(call_id, str):
            self._tool_calls[str(task.get("id"))] = call_id


def _named(method: str, namespace: Namespace, data: Any, *, node: Any = None) -> NamedValue:
    params: dict[str, Any] = {"namespace": list(namespace), "timestamp": int(time() * 1000)}
    if node is not None:
        params["node"] = node
    params["data"] = data
    return "|".join((PREFIX + method, *namespace)), params


def _encoded(value: Any) -> orjson.Fragment:
    """The value as it is now: a node may change it before it is sent."""
    # A copy: orjson returns even short JSON in a buffer of 4 KB.
    return orjson.Fragment(bytes(memoryview(encode_json(value))))


def _without_interrupts(values: Any) -> Any:
    if type(values) is dict and _INTERRUPT in values:
        return {key: value for key, value in values.items() if key != _INTERRUPT}
    return values


def _checkpoint(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """What a client needs to go back to the checkpoint; its values are an event of their own."""
    metadata = chunk.get("metadata") or {}
    told = {
        "id": _checkpoint_id(chunk.get("config")),
        "parent_id": _checkpoint_id(chunk.get("parent_config")),
        "step": metadata.get("step"),
        "source": metadata.get("source"),
    }
    return {key: value for key, value in told.items() if value is not None}


def _checkpoint_id(config: Any) -> str | None:
    found = ((config or {}).get("configurable") or {}).get("checkpoint_id")
    return None if found is None else str(found)


def _custom(namespace: Namespace, chunk: Any) -> NamedValue:
    """A value with a name and a payload is an event of the channel ``custom:<name>``."""
    if not isinstance(chunk, dict) or "payload" not in chunk:
        return _named("custom", namespace, {"payload": chunk})
    name = chunk.get("name")
    # A bar stands between the parts of a stored name.
    is_channel = isinstance(name, str) and 0 < len(name) <= _MAX_NAME and "|" not in name
    return _named(f"custom:{name}" if is_channel else "custom", namespace, chunk)
