"""Limits of store items: namespaces, keys, sizes and filters."""

from collections.abc import Sequence
from typing import Any

import orjson

from headrace.checkpoints.store_roots import ROOT
from headrace.db.jsonb import dump_jsonb
from headrace.errors import BadRequest, InvalidRequest
from headrace.retention_settings import StoreSettings

#: LangGraph reserves this first label for itself.
_RESERVED_ROOT = "langgraph"

MAX_FILTER_KEYS = 20
_OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")


class StoreLimits:
    """Each check raises :class:`InvalidRequest`, which says what to change."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings

    def path(self, namespace: Sequence[str], key: str) -> tuple[str, ...]:
        """Check the namespace and key of an item; returns the namespace for the store."""
        checked = self.labels(namespace)
        if "\0" in key:
            raise InvalidRequest("key: it cannot hold a NUL character")
        if not key:
            raise InvalidRequest("key: it must not be empty")
        self._short(checked, key)
        return checked

    def new_path(self, namespace: Sequence[str], key: str) -> tuple[str, ...]:
        """As :meth:`path`, for an item that is written.

        :raises BadRequest: the namespace is empty.
        """
        if not namespace:
            raise BadRequest("Namespace cannot be empty.")
        if namespace[0] == _RESERVED_ROOT:
            raise InvalidRequest(
                f"Root label for namespace cannot be '{_RESERVED_ROOT}': LangGraph reserves it;"
                " use another label."
            )
        return self.path(namespace, key)

    def labels(self, namespace: Sequence[str]) -> tuple[str, ...]:
        """Check a namespace, or a part of one; returns it for the store."""
        if len(namespace) > self._settings.max_namespace_depth:
            raise InvalidRequest(
                f"The namespace has {len(namespace)} labels; at most"
                f" {self._settings.max_namespace_depth} are taken"
                " (setting store.max_namespace_depth)."
            )
        if namespace and namespace[0] == ROOT:
            raise InvalidRequest(
                f"Root label for namespace cannot be '{ROOT}': headrace reserves it; use another"
                " label."
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
        """Check a filter. For each key of the filter, the store reads each value once."""
        try:
            orjson.dumps(given)
        except TypeError:
            raise InvalidRequest(
                "filter: the store cannot compare numbers of more than 64 bits"
            ) from None
        if len(given or {}) > MAX_FILTER_KEYS:
            raise InvalidRequest(f"filter: at most {MAX_FILTER_KEYS} keys are taken")
        for key, wanted in (given or {}).items():
            for operator in wanted if isinstance(wanted, dict) else ():
                if operator not in _OPERATORS:
                    raise InvalidRequest(
                        f"filter.{key}: '{operator}' is not one of {', '.join(_OPERATORS)}; to find"
                        f' a whole object, send {{"{key}": {{"$eq": {{...}}}}}}'
                    )
