"""``webhooks`` of ``langgraph.json``: which receivers runs may name, and the headers of calls."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

#: ``${{ env.NAME }}`` in the value of a header.
_TEMPLATE = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

#: headrace writes these itself.
_OWN_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "host", "transfer-encoding"}
)
_OWN_PREFIX = "webhook-"


def _no_null(value: Any) -> Any:
    return () if value is None else value


class WebhookUrlEntry(BaseModel):
    """``webhooks.url``. What is not stated is decided by settings and their defaults."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    require_https: bool | None = None
    allowed_domains: Annotated[tuple[str, ...], BeforeValidator(_no_null)] = ()
    allowed_ports: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65535)], ...], BeforeValidator(_no_null)
    ] = ()
    max_url_length: int | None = Field(None, ge=1)
    disable_loopback: bool = True


class WebhooksEntry(BaseModel):
    """``webhooks`` of a manifest."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    env_prefix: str = Field("LG_WEBHOOK_", min_length=1)
    url: Annotated[WebhookUrlEntry, BeforeValidator(lambda value: value or {})] = Field(
        default_factory=WebhookUrlEntry
    )
    headers: Annotated[dict[str, str], BeforeValidator(lambda value: value or {})] = {}

    @model_validator(mode="after")
    def _are_headers(self) -> "WebhooksEntry":
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"headers.{name} is no header of one line of ASCII")
            if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIX):
                raise ValueError(f"headers.{name} is a header that headrace writes itself")
            for variable in _TEMPLATE.findall(value):
                if not variable.startswith(self.env_prefix):
                    raise ValueError(
                        f"headers.{name} names env.{variable}, which does not begin with"
                        f" {self.env_prefix} (env_prefix)"
                    )
        return self

    def resolved_headers(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The headers with the values of variables, by lower-case name.

        :raises ValueError: a variable is not set, or its value is not one line of ASCII.
        """
        return {name.lower(): self._resolved(name, environment) for name in self.headers}

    def _resolved(self, name: str, environment: Mapping[str, str]) -> str:
        def value_of(found: re.Match[str]) -> str:
            value = environment.get(found[1], "")
            if not value or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(
                    f"webhooks.headers.{name} needs {found[1]}, which is not set to one line of"
                    " ASCII"
                )
            return value

        # Blanks around a value mean nothing in HTTP, and no call could be made with them.
        return _TEMPLATE.sub(value_of, self.headers[name]).strip(" \t")
