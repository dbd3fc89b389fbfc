"""How values of checkpoints are read back: which types are made again from what is stored.

Whoever can write to the database says what is stored. A type that is not allowed is not made: its
fields are handed out instead (GHSA-g48c-2wqr-h844).
"""

import copy
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import ormsgpack
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
)
from pydantic import BaseModel

from headrace.checkpoints.upstream import (
    PACK_OPTIONS,
    DeltaSnapshot,
    pack_other,
    without_snapshot,
)

#: Module and name of types; True is every type, None LangGraph's own choice.
Types = Sequence[tuple[str, str]] | Literal[True] | None


_INTEGER = ("builtins", "int")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class ExactSerializer(JsonPlusSerializer):
    """LangGraph's serializer, which takes two things besides: integers beyond 64 bits, stored as
    the call ``int("digits")``, and keys with half a surrogate pair, which becomes U+FFFD.

    LangGraph's own can read both.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """
        :raises TypeError: as LangGraph's.
        """
        try:
            return super().dumps_typed(obj)
        except TypeError as error:
            try:
                return "msgpack", _packed(obj)
            except Exception:
                raise error from None


def _packed(obj: Any) -> bytes:
    options = PACK_OPTIONS | ormsgpack.OPT_PASSTHROUGH_BIG_INT
    return ormsgpack.packb(_whole(obj), default=_pack, option=options)


def _whole(obj: Any) -> Any:
    """The same with text that UTF-8 can carry."""
    kind = type(obj)
    if kind is str:
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", obj)
    if kind is dict:
        return {_whole(key): _whole(value) for key, value in obj.items()}
    if kind is list or kind is tuple:
        return kind(_whole(item) for item in obj)
    return obj


def _pack(obj: Any) -> Any:
    """What LangGraph's own would make of it, where an integer may be in it."""
    module, name = type(obj).__module__, type(obj).__name__
    if isinstance(obj, int):
        return ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, _packed((*_INTEGER, str(obj))))
    if isinstance(obj, DeltaSnapshot):
        return ormsgpack.Ext(EXT_DELTA_SNAPSHOT, _packed(without_snapshot(obj)))
    if isinstance(obj, BaseModel):
        content = (module, name, obj.model_dump(), "model_validate_json")
        return ormsgpack.Ext(EXT_PYDANTIC_V2, _packed(content))
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        fields = {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
        return ormsgpack.Ext(EXT_CONSTRUCTOR_KW_ARGS, _packed((module, name, fields)))
    return pack_other(obj)


class _Lenient:
    """Reads what it can, and tells in words of what it cannot."""

    def __init__(self, inner: SerializerProtocol) -> None:
        self._inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        try:
            return self._inner.loads_typed(data)
        except BaseException as error:  # constructors of the user's run here
            kind, content = data
            return f"... (unreadable: {len(content)} bytes of {kind}, {type(error).__name__})"


def lenient(saver: BaseCheckpointSaver[Any]) -> BaseCheckpointSaver[Any]:
    """The same saver, for who only shows what it reads.

    A value that cannot be read, because it is damaged or its type is gone, is text that says so.
    """
    reader = copy.copy(saver)
    reader.serde = _Lenient(saver.serde)
    return reader


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
    return ExactSerializer(**given).with_msgpack_allowlist([_INTEGER])


def watch_blocked_types(count: Callable[[], None]) -> Callable[[], None]:
    """Call ``count`` for each value whose type is not made again; what is returned ends that.

    LangGraph raises nothing there: the run goes on with plain fields.
    """

    def listen(event: SerdeEvent) -> None:
        if event["kind"] in ("msgpack_blocked", "msgpack_method_blocked"):
            count()

    return register_serde_event_listener(listen)
