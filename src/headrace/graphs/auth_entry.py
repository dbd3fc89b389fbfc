"""``auth`` of ``langgraph.json``: the user's handlers, and what is remembered and described."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headrace.graphs.object_path import ObjectPath

#: Parts of ``openapi``.
_DESCRIBED = ("securitySchemes", "security", "paths")

Header = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]


class AuthCacheEntry(BaseModel):
    """``auth.cache``: users are remembered by these headers."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    cache_keys: tuple[Header, ...] = Field(min_length=1, max_length=20)
    ttl_seconds: float = Field(60.0, gt=0, le=86_400, allow_inf_nan=False)
    max_size: int = Field(1000, ge=1, le=1_000_000)


class AuthOpenApiEntry(BaseModel):
    """``auth.openapi``: how callers prove who they are, for the description of the API."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    security_schemes: dict[str, dict[str, Any]] = Field({}, alias="securitySchemes")
    security: list[dict[str, list[str]]] = []
    #: The security of single operations: ``{"/threads": {"post": [{"bearer": []}]}}``.
    paths: dict[str, dict[str, Any]] = {}


class AuthEntry(BaseModel):
    """``auth`` of a manifest. Without ``path`` it does nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    path: ObjectPath | None = None
    disable_studio_auth: bool | None = None
    openapi: AuthOpenApiEntry | None = None
    cache: AuthCacheEntry | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value
