"""The user, as handlers and graphs see it: ``ctx.user`` and ``langgraph_auth_user``."""

import dataclasses
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import orjson

from headrace.auth.principal import Principal
from headrace.json_text import json_text

#: A user is stored with each of its runs.
MAX_USER_BYTES = 64 * 1024
_MAX_IDENTITY = 500
#: What every user has; an object may have more.
_KNOWN = ("identity", "is_authenticated", "display_name", "permissions")


class WrongUser(Exception):
    """The handler ``authenticate`` has returned something that is no user."""


class User(dict[str, Any]):
    """A user with the fields of its handler, as attributes and as items.

    It is a dict, so that it can be stored, copied and sent.
    """

    def __getattr__(self, name: str) -> Any:
        # Python looks for its own names at copies and pickles.
        if name.startswith("__") or name not in self:
            raise AttributeError(f"this user has no {name!r}; it has {', '.join(self)}")
        return self[name]

    @property
    def identity(self) -> str:
        """Who it is."""
        return str(self["identity"])

    @property
    def display_name(self) -> str:
        """Its name for people."""
        return str(self.get("display_name") or self.identity)

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody has checked who it is."""
        return bool(self.get("is_authenticated", True))

    @property
    def permissions(self) -> list[str]:
        """What it may do, in the words of the handler."""
        return list(self.get("permissions") or ())


def user_of(principal: Principal) -> User:
    """The user that a principal stands for, also one without an own user.

    It is a copy: handlers and nodes may change it, and the principal may be remembered for others.
    """
    return User(
        {
            "identity": principal.identity,
            "is_authenticated": not principal.is_anonymous,
            "display_name": principal.identity,
            "permissions": list(principal.permissions),
            **deepcopy(dict(principal.user or {})),
        }
    )


def user_fields(result: Any) -> dict[str, Any]:
    """The fields of what ``authenticate`` has returned: a text, a mapping or an object.

    They are values of JSON, because they are stored with runs.

    :raises WrongUser: it is no user, or too large.
    """
    found = {"identity": result} if isinstance(result, str) else _fields(result)
    identity = found.get("identity")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if not isinstance(identity, str) or not 0 < len(identity) <= _MAX_IDENTITY:
        raise WrongUser(
            f"it has returned a user whose identity is no text of 1 to {_MAX_IDENTITY} characters"
        )
    if not identity.isprintable():
        raise WrongUser("it has returned a user whose identity has unprintable characters")
    permissions = found.get("permissions")
    if isinstance(permissions, str) or not _is_iterable(permissions):
        raise WrongUser("it has returned a user whose permissions are no list of texts")
    whole = {
        **found,
        "identity": identity,
        "is_authenticated": bool(found.get("is_authenticated", True)),
        "display_name": str(found.get("display_name") or identity),
        "permissions": [str(one) for one in permissions or ()],
    }
    text = json_text(whole)
    if len(text) > MAX_USER_BYTES:
        raise WrongUser(f"it has returned a user of more than {MAX_USER_BYTES} bytes")
    fields: dict[str, Any] = orjson.loads(text)
    return fields


def _fields(result: Any) -> dict[str, Any]:
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items()}
    if callable(dump := getattr(result, "model_dump", None)):
        own = dict(dump())
    elif dataclasses.is_dataclass(result) and not isinstance(result, type):
        own = {one.name: getattr(result, one.name) for one in dataclasses.fields(result)}
    else:
        own = {k: v for k, v in getattr(result, "__dict__", {}).items() if not k.startswith("_")}
    # Starlette's users have properties.
    more = {name: getattr(result, name) for name in _KNOWN if hasattr(result, name)}
    if "identity" not in {**own, **more}:
        raise WrongUser(f"it has returned {type(result).__name__}, which has no identity")
    return {**own, **more}


def _is_iterable(value: Any) -> bool:
    return value is None or hasattr(value, "__iter__")
