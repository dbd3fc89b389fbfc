"""Limits on the values of requests. Each check refuses with what to change."""

from typing import Any

from headrace.errors import InvalidRequest
from headrace.json_text import json_text
from headrace.request_settings import RequestSettings

#: Levels of lists and objects in metadata and filters.
MAX_DEPTH = 32
#: Numbers, texts, lists and objects in metadata: a filter is compared with each of them.
_MAX_METADATA_VALUES = 10_000
_MAX_FILTER_BYTES = 256 * 1024


class RequestLimits:
    """Each check raises :class:`InvalidRequest`. The value None passes."""

    def __init__(self, settings: RequestSettings) -> None:
        self.settings = settings

    def metadata(self, value: Any, where: str = "metadata") -> None:
        """Metadata of a run, thread or assistant, which filters search."""
        if not value:
            return
        self._short(value, self.settings.max_metadata_bytes, where, "max_metadata_bytes")
        _Shape(where, max_values=_MAX_METADATA_VALUES).check(value)

    def configuration(self, value: Any, where: str) -> None:
        """A context, or a part of a config."""
        if value:
            self._short(
                value, self.settings.max_configuration_bytes, where, "max_configuration_bytes"
            )

    def config(self, config: dict[str, Any] | None) -> None:
        """The ``config`` of a run or assistant, with the metadata in it."""
        if not config:
            return
        self.configuration(config, "config")
        self.metadata(config.get("metadata"), "config.metadata")
        most = self.settings.max_recursion_limit
        if config.get("recursion_limit", 0) > most:
            raise InvalidRequest(
                f"config.recursion_limit: at most {most} steps are allowed (setting"
                " requests.max_recursion_limit)"
            )

    def deadline(self, seconds: float | None) -> None:
        """The ``deadline_seconds`` of a run."""
        most = self.settings.max_deadline_seconds
        if seconds is not None and seconds > most:
            raise InvalidRequest(
                f"deadline_seconds: at most {most:g} s are allowed (setting"
                " requests.max_deadline_seconds)"
            )

    def supersteps(self, updates: int) -> None:
        """The updates of a new thread, which are one transaction."""
        most = self.settings.max_superstep_updates
        if updates > most:
            raise InvalidRequest(
                f"supersteps: they have {updates} updates; at most {most} are allowed at once"
                " (setting requests.max_superstep_updates). Create the thread with the first ones,"
                " and send the others to POST /threads/{id}/state."
            )

    def filter(self, value: Any, where: str) -> None:
        """A filter. The work grows with its size times the size of the stored JSON."""
        if not value:
            return
        _Shape(
            where,
            max_values=self.settings.max_filter_values,
            max_array=self.settings.max_filter_array,
            named="requests.max_filter_values",
        ).check(value)
        size = len(json_text(value))
        if size > _MAX_FILTER_BYTES:
            raise InvalidRequest(
                f"{where}: the filter is {size} bytes long; at most {_MAX_FILTER_BYTES} are allowed"
            )

    def _short(self, value: Any, max_bytes: int, where: str, name: str) -> None:
        size = len(json_text(value))
        if size > max_bytes:
            raise InvalidRequest(
                f"{where}: it is {size} bytes long; at most {max_bytes} are allowed (setting"
                f" requests.{name}). Put large values into the input or the store."
            )


class _Shape:
    """Walks through a value and refuses it when it is beyond a limit."""

    def __init__(
        self, where: str, *, max_values: int, max_array: int | None = None, named: str = ""
    ) -> None:
        self._where = where
        self._max_values = max_values
        self._max_array = max_array
        self._named = f" (setting {named})" if named else ""

    def check(self, value: Any) -> None:
        level, depth, seen = [value], 0, 0
        while level:
            depth, seen = depth + 1, seen + len(level)
            if depth > MAX_DEPTH:
                self._refuse(f"it is nested more than {MAX_DEPTH} levels deep")
            if seen > self._max_values:
                self._refuse(f"it holds more than {self._max_values} values{self._named}")
            below: list[Any] = []
            for item in level:
                if isinstance(item, dict):
                    below.extend(item.values())
                elif isinstance(item, list):
                    if self._max_array is not None and len(item) > self._max_array:
                        self._refuse(
                            f"a list in it has {len(item)} items; at most {self._max_array} are"
                            " allowed (setting requests.max_filter_array)"
                        )
                    below.extend(item)
            level = below

    def _refuse(self, what: str) -> None:
        raise InvalidRequest(f"{self._where}: {what}.")
