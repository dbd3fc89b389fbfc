"""The types that are made again when stored values are read."""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import structlog
from langgraph.checkpoint.serde.event_hooks import emit_serde_event

from headrace.checkpoints.upstream import SAFE_METHODS, SAFE_TYPES

_log = structlog.stdlib.get_logger("headrace.checkpoints")

#: The module and the name of a type.
TypeKey = tuple[str, str]
#: Types that the operator lists; True: every type; None: no list.
Types = Sequence[TypeKey] | Literal[True] | None

#: headrace stores integers beyond 64 bits as a call of it.
_INTEGER: TypeKey = ("builtins", "int")
#: LangGraph stores times of the user's own classes as a call of this method.
_METHOD = "fromisoformat"
#: The log names a type once; so many types are remembered.
_MAX_TOLD = 1000
#: Characters of a stored name that are shown.
_MAX_NAME = 200


class AllowedTypes:
    """LangGraph's own types, and those of the operator. One per process.

    Without a list, graphs declare theirs: their code is loaded, and makes these types anyway. With
    a list, only its types are allowed.

    :param listed: the list of the manifest.
    :param more: types besides; they are no list.
    """

    def __init__(self, listed: Types = None, *, more: Iterable[TypeKey] = ()) -> None:
        self._every = listed is True
        self._is_list = listed is not None
        self._told: set[tuple[str, TypeKey]] = set()
        self._types = {_INTEGER, *more, *(() if listed is True or listed is None else listed)}

    def allows(self, module: str, name: str) -> bool:
        """Whether values of this type are made again."""
        key = (module, name)
        return key in SAFE_TYPES or key in self._types or self._every

    def allows_method(self, module: str, name: str, method: str) -> bool:
        """Whether this method of the type may be called for that."""
        if (module, name, method) in SAFE_METHODS:
            return True
        return method == _METHOD and self.allows(module, name)

    def declare(self, types: Collection[TypeKey]) -> list[TypeKey]:
        """Allow the types that a graph's state declares, unless the operator has a list.

        :return: those that stay forbidden.
        """
        if not self._is_list:
            self._types.update(types)
        return sorted(key for key in types if not self.allows(*key))

    def block(self, module: str, name: str, method: str = "") -> TypeKey:
        """Report a stored value whose type is not allowed; returns the type, shortened."""
        key = (module[:_MAX_NAME], name[:_MAX_NAME])
        if method:
            emit_serde_event(
                {"kind": "msgpack_method_blocked", "module": module, "name": name, "method": method}
            )
        else:
            emit_serde_event({"kind": "msgpack_blocked", "module": module, "name": name})
        if self.is_news("blocked", key):
            _log.warning("type_blocked", type=shown(key), allow=listing([key]))
        return key

    def is_news(self, what: str, key: TypeKey) -> bool:
        """Whether nobody has asked this before: the log says it once per type."""
        asked = (what, (key[0][:_MAX_NAME], key[1][:_MAX_NAME]))
        if asked in self._told or len(self._told) >= _MAX_TOLD:
            return False
        self._told.add(asked)
        return True


def listing(types: Iterable[TypeKey]) -> str:
    """The types as ``langgraph.json`` lists them."""
    return ", ".join(f'["{module[:_MAX_NAME]}", "{name[:_MAX_NAME]}"]' for module, name in types)


def shown(key: TypeKey) -> str:
    """The type as people write it: ``package.module:Type``."""
    return f"{key[0][:_MAX_NAME]}:{key[1][:_MAX_NAME]}"
