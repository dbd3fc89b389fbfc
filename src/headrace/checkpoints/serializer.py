"""Decides which types are made again when values of checkpoints are read.

Anyone who can write to the database decides what is stored. So only allowed types are made again
(GHSA-g48c-2wqr-h844). A run that reads another type fails: with the plain fields it would go on
wrongly. An answer that only shows values has the fields.
"""

import copy
import dataclasses
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import Enum
from functools import partial
from typing import Any

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
    LC_REVIVER,
    JsonPlusSerializer,
)
from pydantic import BaseModel

from headrace.checkpoints.allowed_types import AllowedTypes, TypeKey, Types, listing, shown
from headrace.checkpoints.answer_memory import current_reading
from headrace.checkpoints.large_leaves import LargeLeaves, extension, holds_large
from headrace.checkpoints.unpacking import Unpacking
from headrace.checkpoints.upstream import (
    PACK_OPTIONS,
    DeltaSnapshot,
    pack_other,
    without_snapshot,
)
from headrace.db.arrays import Pieces
from headrace.errors import TypeNotAllowed

_log = structlog.stdlib.get_logger("headrace.checkpoints")

_INTEGER = ("builtins", "int")
_OPTIONS = (PACK_OPTIONS & ~ormsgpack.OPT_REPLACE_SURROGATES) | ormsgpack.OPT_PASSTHROUGH_BIG_INT
#: Attributes that LangGraph prefers to the fields of a dataclass.
_NO_FIELDS = ("model_dump", "get_secret_value", "dict", "_asdict", "_value_")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
#: Refusals name at most so many types.
_MAX_NAMED = 10

#: Whether the calling task only shows what it reads.
_showing: ContextVar[bool] = ContextVar("headrace_showing_values", default=False)


class ExactSerializer(JsonPlusSerializer):
    """LangGraph's serializer with three differences.

    LangGraph's refuses integers beyond 64 bits. Here they are stored as the call ``int("digits")``.
    LangGraph's turns half a surrogate pair into a question mark, and refuses it in a key. Here it
    becomes U+FFFD in both places, as in answers. LangGraph's gives the fields of a value whose type
    is not allowed to the graph. Here that raises.

    :param json_types: types in checkpoints of releases before 2025.
    """

    def __init__(self, allowed: AllowedTypes, json_types: AllowedTypes) -> None:
        super().__init__(allowed_msgpack_modules=None)
        self._allowed = allowed
        self._json_types = json_types
        self._packers = (_Packer(allowed, mends=False), _Packer(allowed, mends=True))

    def with_msgpack_allowlist(
        self, extra_allowlist: Iterable[tuple[str, ...] | type]
    ) -> "ExactSerializer":
        """Itself: with ``LANGGRAPH_STRICT_MSGPACK`` LangGraph asks for the types of each graph,
        which the registry has declared.
        """
        return self

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """
        :raises TypeError: as LangGraph's.
        """
        if obj is None or isinstance(obj, bytes | bytearray):
            return super().dumps_typed(obj)
        for packer in self._packers:
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
                    return "msgpack", _PiecesPacker(self._allowed, mends=mends).pieces(obj)
        return self.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """
        :raises TypeNotAllowed: a type in it is not allowed, and the caller does not only show it.
        :raises ValueError: it is damaged.
        """
        return self.loads_noting(data, set())

    def loads_noting(self, data: tuple[str, bytes], blocked: set[TypeKey]) -> Any:
        """As :meth:`loads_typed`.

        :param blocked: gets the types whose fields stand in the value instead.
        """
        kind, content = data
        if kind == "msgpack":
            unpacking = Unpacking(self._allowed)
            value, found, key = unpacking.value(content), unpacking.blocked, "msgpack"
        elif kind == "json":
            reviving = _Reviving(self._json_types)
            value, found, key = json.loads(content, object_hook=reviving), reviving.blocked, "json"
        elif kind == "pickle":
            raise TypeNotAllowed(_PICKLED)
        else:
            return super().loads_typed(data)
        if found:
            blocked |= found
            if not _showing.get() and current_reading() is None:
                raise TypeNotAllowed(_not_allowed(found, f"allowed_{key}_modules"))
        return value


_PICKLED = (
    "The thread has values that another server has stored with pickle. headrace never reads them:"
    " who writes to the database could run code in the server. Start a new thread."
)


def _not_allowed(types: set[TypeKey], key: str) -> str:
    named = sorted(types)[:_MAX_NAMED]
    one = len(named) == 1
    return (
        f"The thread has values of {'a type' if one else 'types'} that this server may not make"
        f" again: {', '.join(map(shown, named))}. Add {listing(named)} to checkpointer.serde.{key}"
        " in langgraph.json, and restart the server."
    )


class _Reviving:
    """Reads one value of a release before 2025: JSON, with calls of constructors in it."""

    def __init__(self, allowed: AllowedTypes) -> None:
        self._allowed = allowed
        self.blocked: set[TypeKey] = set()

    def __call__(self, value: dict[str, Any]) -> Any:
        """What an object stands for; the object itself if it is data, or must not be made."""
        if value.get("lc") == 1 and value.get("type") == "not_implemented":
            return LC_REVIVER(value)
        if value.get("type") != "constructor" or value.get("lc") not in (1, 2):
            # Secrets too: a reader of them would look into the environment.
            return value
        named = value.get("id")
        if not (isinstance(named, list) and len(named) > 1 and all(type(n) is str for n in named)):
            return value
        mapped = tuple(named)
        if value["lc"] == 1:
            mapped = LC_REVIVER.import_mappings.get(mapped, mapped)
        *module, name = mapped
        if not self._allowed.allows(".".join(module), name):
            self.blocked.add(self._allowed.block(".".join(module), name))
            return value
        if value["lc"] == 1:
            return LC_REVIVER(value)
        kind = getattr(importlib.import_module(".".join(module)), name)
        return kind(*(value.get("args") or ()), **(value.get("kwargs") or {}))


class _Packer:
    """
    :param allowed: a type that will not be made again is told to the log.
    :param mends: replace half surrogate pairs; else refuse them.
    """

    def __init__(self, allowed: AllowedTypes, *, mends: bool) -> None:
        self._allowed = allowed
        self._mends = mends

    def packed(self, obj: Any) -> bytes:
        """
        :raises TypeError: msgpack or LangGraph has no form for it.
        """
        content = _mended(obj) if self._mends else obj
        return ormsgpack.packb(content, default=self._form, option=_OPTIONS)

    def _form(self, obj: Any) -> Any:
        """The form that LangGraph's serializer gives to ``obj``. Its content is packed here too."""
        if isinstance(obj, int) and not isinstance(obj, Enum):
            # A class of the user's may have another text.
            return self._made(EXT_CONSTRUCTOR_SINGLE_ARG, (*_INTEGER, int.__repr__(obj)))
        if isinstance(obj, DeltaSnapshot):
            return self._made(EXT_DELTA_SNAPSHOT, without_snapshot(obj))
        kind = type(obj)
        if not self._allowed.allows(kind.__module__, kind.__name__):
            self._warn(obj, kind)
        if isinstance(obj, BaseModel):
            content = (kind.__module__, kind.__name__, obj.model_dump(), "model_validate_json")
            return self._made(EXT_PYDANTIC_V2, content)
        if dataclasses.is_dataclass(obj) and not any(map(partial(hasattr, obj), _NO_FIELDS)):
            fields = {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
            return self._made(EXT_CONSTRUCTOR_KW_ARGS, (kind.__module__, kind.__name__, fields))
        return pack_other(obj)

    def _made(self, code: int, content: Any) -> Any:
        return ormsgpack.Ext(code, self.packed(content))

    def _warn(self, obj: Any, kind: type) -> None:
        """Say now that a later run cannot read the value."""
        named = isinstance(obj, BaseModel | Enum | tuple) or hasattr(obj, "get_secret_value")
        if not (named or dataclasses.is_dataclass(obj)):
            # What has another form, or none.
            return
        key = (kind.__module__, kind.__name__)
        if self._allowed.is_news("stored", key):
            _log.warning(
                "type_not_listed",
                type=shown(key),
                note="it is stored, but a run that reads it will fail",
                allow=listing([key]),
            )


class _PiecesPacker(_Packer):
    """Takes large leaves out of one value."""

    def __init__(self, allowed: AllowedTypes, *, mends: bool) -> None:
        super().__init__(allowed, mends=mends)
        self._leaves = LargeLeaves()

    def pieces(self, obj: Any) -> bytes | Pieces:
        """
        :raises TypeError: msgpack or LangGraph has no form for it.
        """
        return self._leaves.put_back(self.packed(self._leaves.taken_from(obj)))

    def _made(self, code: int, content: Any) -> Any:
        packed = _PiecesPacker(self._allowed, mends=self._mends).pieces(content)
        if isinstance(packed, bytes):
            return ormsgpack.Ext(code, packed)
        return self._leaves.replaced(*extension(code, packed))


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


@contextmanager
def showing_values() -> Iterator[None]:
    """Within the block, a value whose type is not allowed is read as its fields."""
    before = _showing.set(True)
    try:
        yield
    finally:
        _showing.reset(before)


class _Lenient:
    """Reads what it can, and returns a text in place of a value that it cannot read."""

    def __init__(self, inner: SerializerProtocol) -> None:
        self._inner = inner

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        try:
            with showing_values():
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
    allowed: AllowedTypes | None = None, *, json_types: Types = None
) -> ExactSerializer:
    """
    :param allowed: None: LangGraph's own types, and those that graphs declare.
    :param json_types: types in checkpoints of releases before 2025; None: LangGraph's own.
    """
    return ExactSerializer(allowed or AllowedTypes(), AllowedTypes(json_types or ()))


def watch_blocked_types(count: Callable[[], None]) -> Callable[[], None]:
    """Call ``count`` for each value whose type is not allowed. The returned function ends that."""

    def listen(event: SerdeEvent) -> None:
        if event["kind"] in ("msgpack_blocked", "msgpack_method_blocked"):
            count()

    return register_serde_event_listener(listen)
