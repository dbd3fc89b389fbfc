"""What a store item may be called, and how large it may be."""

from collections.abc import Sequence
from typing import Any

import orjson

from headrace.db.jsonb import dump_jsonb
from headrace.errors import BadRequest, InvalidRequest
from headrace.retention_settings import StoreSettings

#: LangGraph keeps this root to itself.
_RESERVED_ROOT = "langgraph"

MAX_FILTER_KEYS = 20
_OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")


class Limits:
    """Each check raises :class:`InvalidRequest` with what to change."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings

    def path(self, namespace: Sequence[str], key: str) -> tuple[str, ...]:
        """The namespace of one item, as the store takes it."""
        checked = self.labels(namespace)
        if "\0" in key:
            raise InvalidRequest("key: it cannot hold a NUL character")
        if not key:
            raise InvalidRequest("key: it must not be empty")
        self._short(checked, key)
        return checked

    def new_path(self, namespace: Sequence[str], key: str) -> tuple[str, ...]:
        """The same of an item that is to be written.

        :raises BadRequest: there is no namespace.
        """
        if not namespace:
            raise BadRequest("Namespace cannot be empty.")
        if namespace[0] == _RESERVED_ROOT:
            raise InvalidRequest(
                f"Root label for namespace cannot be '{_RESERVED_ROOT}': LangGraph keeps it to"
                " itself; use another one."
            )
        return self.path(namespace, key)

    def labels(self, namespace: Sequence[str]) -> tuple[str, ...]:
        """A namespace, or a part of one."""
        if len(namespace) > self._settings.max_namespace_depth:
            raise InvalidRequest(
                f"The namespace has {len(namespace)} labels; at most"
                f" {self._settings.max_namespace_depth} are taken"
                " (setting store.max_namespace_depth)."
            )
        for label in namespace:
            if not label or "." in label:
                raise InvalidRequest(
                    f"Namespace label '{label}' must be a non-empty string without periods"
                )
            if "\0" in label:
                raise InvalidRequest("A namespace label cannot hold a NUL character")
        self._short(namespace, "")
        return tuple(namespace)

    def _short(self, namespace: Sequence[str], key: str) -> None:
        size = len(".".join(namespace).encode()) + len(key.encode())
        if size > self._settings.max_path_bytes:
            raise InvalidRequest(
                f"Namespace and key are {size} bytes long together; at most"
                f" {self._settings.max_path_bytes} are taken (setting store.max_path_bytes)."
            )

    def value(self, value: dict[str, Any]) -> None:
        size = len(dump_jsonb(value))
        if size > self._settings.max_value_bytes:
            raise InvalidRequest(
                f"value: it is {size} bytes long; at most {self._settings.max_value_bytes} are"
                " taken (setting store.max_value_bytes)"
            )

    def filter(self, given: dict[str, Any] | None) -> None:
        """A filter that the store can work out: it reads each value once for each key."""
        try:
            orjson.dumps(given)
        except TypeError:
            raise InvalidRequest(
                "filter: a number of more than 64 bits cannot be looked for"
            ) from None
        if len(given or {}) > MAX_FILTER_KEYS:
            raise InvalidRequest(f"filter: at most {MAX_FILTER_KEYS} keys are taken")
        for key, wanted in (given or {}).items():
            for operator in wanted if isinstance(wanted, dict) else ():
                if operator not in _OPERATORS:
                    raise InvalidRequest(
                        f"filter.{key}: '{operator}' is none of {', '.join(_OPERATORS)}; to find an"
                        f' object as it is, send {{"{key}": {{"$eq": {{...}}}}}}'
                    )
