"""How values of checkpoints are read back: which types are made again from what is stored.

Whoever can write to the database says what is stored. A type that is not allowed is not made: its
fields are handed out instead (GHSA-g48c-2wqr-h844).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

#: Module and name of types; True is every type, None LangGraph's own choice.
Types = Sequence[tuple[str, str]] | Literal[True] | None


def build_serializer(
    *, json_types: Types = None, msgpack_types: Types = None, pickle_fallback: bool = False
) -> JsonPlusSerializer:
    """LangGraph's serializer, with what is allowed besides its own types.

    :param json_types: of checkpoints that releases before 2025 have written.
    :param msgpack_types: of all later ones.
    :param pickle_fallback: what cannot be written otherwise is pickled, and so read back.
    """
    given: dict[str, Any] = {"pickle_fallback": pickle_fallback}
    if json_types is True:
        given["allowed_json_modules"] = True
    elif json_types is not None:
        given["allowed_json_modules"] = [(*module.split("."), name) for module, name in json_types]
    if msgpack_types is not None:
        given["allowed_msgpack_modules"] = msgpack_types or None
    return JsonPlusSerializer(**given)


def watch_blocked_types(count: Callable[[], None]) -> Callable[[], None]:
    """Call ``count`` for each value whose type is not made again; what is returned ends that.

    LangGraph raises nothing there: the run goes on with plain fields.
    """

    def listen(event: SerdeEvent) -> None:
        if event["kind"] in ("msgpack_blocked", "msgpack_method_blocked"):
            count()

    return register_serde_event_listener(listen)
