"""``http`` of ``langgraph.json``: the served rooms, the prefix, CORS, and the visible headers."""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from headrace.edge_settings import check_origins
from headrace.graphs.configuration import is_callers
from headrace.graphs.object_path import ObjectPath
from headrace.setting_groups import DOORS, Door

#: The rooms of ``disable_<room>``.
ROOMS = ("assistants", "threads", "runs", "store", "meta", "mcp", "a2a", "ui", "webhooks")

#: The rooms that headrace has. Probes and ``/ok`` belong to no room: they are always served.
SERVED_ROOMS = frozenset({"assistants", "threads", "runs", "store", "chat", "meta"})

#: A message to /chat makes a thread and a run: an app without either room has no /chat.
_NEEDED_BY_CHAT = frozenset({"threads", "runs"})

#: No run sees these headers, whatever the manifest says; LangGraph's schema has this rule.
ALWAYS_OMITTED = frozenset({"x-api-key", "x-tenant-id", "x-service-key"})

#: A header with such a name may hold a secret. A wildcard does not include it, only its full name.
_SECRET = re.compile(r"authorization|cookie|token|secret|password|credential|session|key")

#: A header with this name says who the caller is, so a wildcard does not include it either.
_WHO = "user_id"


def _no_null(value: Any) -> Any:
    return () if value is None else value


Names = Annotated[tuple[str, ...], BeforeValidator(_no_null)]


class HeaderRules(BaseModel):
    """Names of headers, with ``*`` for any characters. ``excludes`` wins over ``includes``."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    includes: Names = Field((), validation_alias=AliasChoices("includes", "include"))
    excludes: Names = Field((), validation_alias=AliasChoices("excludes", "exclude"))

    def chosen(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """The included headers by lower-case name. Repeated headers are joined by commas."""
        if not self.includes:
            return {}
        found: dict[str, str] = {}
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1").lower()
            if self._includes(name):
                value = raw_value.decode("latin-1")
                found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    def still_chosen(self, stored: Mapping[str, str]) -> dict[str, str]:
        """Those of ``stored``, which :meth:`chosen` gave once, that are included now."""
        return {name: value for name, value in stored.items() if self._includes(name)}

    def _includes(self, name: str) -> bool:
        if name in ALWAYS_OMITTED or not is_callers(name):
            return False
        if self._excluded.fullmatch(name):
            return False
        if name == _WHO or _SECRET.search(name):
            return name in self._exact
        return self._included.fullmatch(name) is not None

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.includes)

    @cached_property
    def _included(self) -> re.Pattern[str]:
        return _any_of(self.includes)

    @cached_property
    def _excluded(self) -> re.Pattern[str]:
        return _any_of(self.excludes)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """A pattern that matches if one of ``patterns`` does."""
    parts = [re.escape(pattern.lower()).replace(r"\*", ".*") for pattern in patterns]
    return re.compile("|".join(parts) or r"(?!)")


class CorsEntry(BaseModel):
    """``http.cors``: the CORS policy. Without origins, the default policy decides them."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    allow_origins: Names = ()
    allow_methods: tuple[str, ...] = ("*",)
    allow_headers: tuple[str, ...] = ("*",)
    allow_credentials: bool = False
    allow_origin_regex: str | None = None
    expose_headers: Names = ()
    max_age: int = Field(600, ge=0)

    @field_validator("allow_origins")
    @classmethod
    def _browsers_send_them(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_origins(value)
        return value

    @field_validator("allow_origin_regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"it is no regular expression ({error})") from None
        return value


class HttpEntry(BaseModel):
    """``http`` of a manifest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    app: ObjectPath | None = None
    doors: Annotated[tuple[Door, ...], BeforeValidator(_no_null)] = ()
    mount_prefix: str | None = None
    cors: CorsEntry | None = None
    configurable_headers: HeaderRules | None = None
    logging_headers: HeaderRules | None = None
    middleware_order: Literal["auth_first", "middleware_first"] | None = None
    enable_custom_route_auth: bool = False
    disable_assistants: bool = False
    disable_threads: bool = False
    disable_runs: bool = False
    disable_store: bool = False
    disable_meta: bool = False
    disable_mcp: bool = False
    disable_a2a: bool = False
    disable_ui: bool = False
    disable_webhooks: bool = False

    @field_validator("mount_prefix")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        prefix = (value or "").rstrip("/")
        if not prefix:
            return None
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
            raise ValueError(f"{value!r} is not of the form /api")
        return prefix

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms of the API that are served: all but those that the manifest disables.

        Router, OpenAPI page and ``/info`` follow it.
        """
        disabled = {room for room in ROOMS if getattr(self, f"disable_{room}")}
        rooms = SERVED_ROOMS - disabled
        return rooms if rooms >= _NEEDED_BY_CHAT else rooms - {"chat"}

    def open_doors(self, named: Collection[str] = ()) -> frozenset[str]:
        """The doors that are served: those that the manifest or the settings name.

        LangGraph's server serves MCP and A2A unless ``disable_mcp`` or ``disable_a2a`` is true.
        Here ``false`` names the door, and ``true`` closes it whatever else names it. A door makes
        threads and runs, so without these rooms none is open.

        :param named: the doors that the settings name.
        """
        if not self.rooms >= _NEEDED_BY_CHAT:
            return frozenset()
        said = {door: f"disable_{door}" for door in DOORS}
        written = {door for door, key in said.items() if key in self.model_fields_set}
        closed = {door for door in written if getattr(self, said[door])}
        return frozenset({*named, *self.doors, *written} - closed)
