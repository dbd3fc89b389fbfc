"""Decides which types are rebuilt when values of checkpoints are read.

Anyone who can write to the database decides what is stored. So only allowed types are rebuilt. For
another type, the fields of the value are returned instead (GHSA-g48c-2wqr-h844).
"""

import copy
import dataclasses
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import ormsgpack
import structlog
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

from headrace.checkpoints.large_leaves import LargeLeaves, extension, holds_large
from headrace.checkpoints.upstream import (
    PACK_OPTIONS,
    DeltaSnapshot,
    pack_other,
    without_snapshot,
)
from headrace.db.arrays import Pieces

#: Module and name of each type; True: every type; None: LangGraph's own choice.
Types = Sequence[tuple[str, str]] | Literal[True] | None


_log = structlog.stdlib.get_logger("headrace.checkpoints")

_INTEGER = ("builtins", "int")
_OPTIONS = (PACK_OPTIONS & ~ormsgpack.OPT_REPLACE_SURROGATES) | ormsgpack.OPT_PASSTHROUGH_BIG_INT
#: Attributes that LangGraph prefers to the fields of a dataclass.
_NO_FIELDS = ("model_dump", "get_secret_value", "dict", "_asdict", "_value_")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class ExactSerializer(JsonPlusSerializer):
    """LangGraph's serializer with two differences. It can read everything that it writes.

    LangGraph's refuses integers beyond 64 bits. Here they are stored as the call ``int("digits")``.
    LangGraph's turns half a surrogate pair into a question mark, and refuses it in a key. Here it
    becomes U+FFFD in both places, as in answers.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """
        :raises TypeError: as LangGraph's.
        """
        if obj is None or isinstance(obj, bytes | bytearray):
            return super().dumps_typed(obj)
        for packer in (_AS_IT_IS, _MENDING):
            with suppress(TypeError):
                return "msgpack", packer.packed(obj)
        return super().dumps_typed(obj)

    def dumps_pieces(self, obj: Any) -> tuple[str, bytes | Pieces]:
        """As :meth:`dumps_typed`, but large texts and bytes in ``obj`` are not copied.

        :raises TypeError: as LangGraph's.
        """
        if holds_large(obj):
            for mends in (False, True):
                with suppress(TypeError):
                    return "msgpack", _PiecesPacker(mends=mends).pieces(obj)
        return self.dumps_typed(obj)


class _Packer:
    """:param mends: replace half surrogate pairs; else refuse them."""

    def __init__(self, *, mends: bool) -> None:
        self._mends = mends

    def packed(self, obj: Any) -> bytes:
        """
        :raises TypeError: msgpack or LangGraph has no form for it.
        """
        content = _mended(obj) if self._mends else obj
        return ormsgpack.packb(content, default=self._form, option=_OPTIONS)

    def _form(self, obj: Any) -> Any:
        """The form that LangGraph's serializer gives to ``obj``. Its content is packed here too."""
        if isinstance(obj, int):
            return self._made(EXT_CONSTRUCTOR_SINGLE_ARG, (*_INTEGER, str(obj)))
        if isinstance(obj, DeltaSnapshot):
            return self._made(EXT_DELTA_SNAPSHOT, without_snapshot(obj))
        kind = type(obj)
        if isinstance(obj, BaseModel):
            content = (kind.__module__, kind.__name__, obj.model_dump(), "model_validate_json")
            return self._made(EXT_PYDANTIC_V2, content)
        if dataclasses.is_dataclass(obj) and not any(map(partial(hasattr, obj), _NO_FIELDS)):
            fields = {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
            return self._made(EXT_CONSTRUCTOR_KW_ARGS, (kind.__module__, kind.__name__, fields))
        return pack_other(obj)

    def _made(self, code: int, content: Any) -> Any:
        return ormsgpack.Ext(code, self.packed(content))


class _PiecesPacker(_Packer):
    """Takes large leaves out of one value."""

    def __init__(self, *, mends: bool) -> None:
        super().__init__(mends=mends)
        self._leaves = LargeLeaves()

    def pieces(self, obj: Any) -> bytes | Pieces:
        """
        :raises TypeError: msgpack or LangGraph has no form for it.
        """
        return self._leaves.put_back(self.packed(self._leaves.taken_from(obj)))

    def _made(self, code: int, content: Any) -> Any:
        packed = _PiecesPacker(mends=self._mends).pieces(content)
        if isinstance(packed, bytes):
            return ormsgpack.Ext(code, packed)
        return self._leaves.replaced(*extension(code, packed))


_AS_IT_IS, _MENDING = _Packer(mends=False), _Packer(mends=True)


def _mended(obj: Any) -> Any:
    """The value, with U+FFFD for each half of a surrogate pair."""
    kind = type(obj)
    if kind is str:
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", obj)
    if kind is dict:
        return {_mended(key): _mended(value) for key, value in obj.items()}
    if kind is list or kind is tuple:
        return kind(_mended(item) for item in obj)
    return obj


class _Lenient:
    """Reads what it can, and returns a text in place of a value that it cannot read."""

    def __init__(self, inner: SerializerProtocol) -> None:
        self._inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        try:
            return self._inner.loads_typed(data)
        except BaseException as error:  # user code runs here: constructors of stored types
            kind, content = data
            _log.warning("value_unreadable", kind=kind, exc_info=True)
            return f"... (unreadable: {len(content)} bytes of {kind}, {type(error).__name__})"


def lenient(saver: BaseCheckpointSaver[Any]) -> BaseCheckpointSaver[Any]:
    """The saver for code that only shows values: a text replaces a value that cannot be read."""
    reader = copy.copy(saver)
    reader.serde = _Lenient(saver.serde)
    return reader


def build_serializer(
    *, json_types: Types = None, msgpack_types: Types = None, pickle_fallback: bool = False
) -> JsonPlusSerializer:
    """An :class:`ExactSerializer` that allows these types besides LangGraph's own.

    :param json_types: types in checkpoints of releases before 2025.
    :param msgpack_types: types in all later checkpoints.
    :param pickle_fallback: pickle values that have no other form, and read them back.
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
    """Call ``count`` for each value whose type is not rebuilt. The returned function ends that.

    LangGraph raises nothing for such a value: the run goes on with its plain fields.
    """

    def listen(event: SerdeEvent) -> None:
        if event["kind"] in ("msgpack_blocked", "msgpack_method_blocked"):
            count()

    return register_serde_event_listener(listen)
