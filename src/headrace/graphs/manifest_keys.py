"""Keys of ``langgraph.json`` that headrace does not use: ignored, warned about, or refused.

Keys for building images are ignored. Unknown keys, and keys that headrace does not support yet,
cause a warning. Keys that protect a server or its data are refused: without them it would be open.
"""

from collections.abc import Mapping
from typing import Any

_HONOURED = frozenset(
    {"auth", "graphs", "dependencies", "env", "store", "checkpointer", "http", "webhooks"}
)

#: For building images, or for the user interface.
_FOR_BUILDS = frozenset(
    {
        "$schema",
        "api_version",
        "base_image",
        "dockerfile_lines",
        "image_distro",
        "keep_pkg_tools",
        "node_version",
        "pip_config_file",
        "pip_installer",
        "python_version",
        "source",
        "ui",
        "ui_config",
    }
)

#: Not supported yet. Without them headrace does less, but does no harm.
_NOT_YET = {
    "crons": "clients create crons over the API",
    "priority": "headrace takes runs in the order they came in",
}

#: Keys that protect something: why headrace refuses them, and the remedy.
REFUSED = {
    "encryption": (
        "headrace does not encrypt yet, and would store all data unencrypted",
        "Postgres's disks and connections may be encrypted",
    ),
}

_KEYS_OF_HTTP = frozenset(
    {
        "app",
        "configurable_headers",
        "cors",
        "doors",
        "enable_custom_route_auth",
        "logging_headers",
        "middleware_order",
        "mount_prefix",
    }
)
_KEYS_OF_AUTH = frozenset({"cache", "disable_studio_auth", "openapi", "path"})
_KEYS_OF_AUTH_CACHE = frozenset({"cache_keys", "max_size", "ttl_seconds"})
_KEYS_OF_CHECKPOINTER = frozenset({"path", "serde", "ttl"})
_KEYS_OF_STORE = frozenset({"index", "ttl"})
_KEYS_OF_WEBHOOKS = frozenset({"env_prefix", "headers", "url"})
_KEYS_OF_WEBHOOK_URLS = frozenset(
    {"allowed_domains", "allowed_ports", "disable_loopback", "max_url_length", "require_https"}
)


def refused_key(content: Mapping[str, Any]) -> str | None:
    """The first key of ``content`` that is refused."""
    for key in REFUSED:
        value = content.get(key)
        if isinstance(value, str) or (isinstance(value, Mapping) and value.get("path")):
            return key
    return None


def notices_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """One warning for each key that does not do what its author may expect."""
    notices = [f"{key} is ignored: {_NOT_YET[key]}" for key in content if key in _NOT_YET]
    if not refused_key(content):
        notices += [f"{key} is ignored: it names no path" for key in REFUSED if content.get(key)]
    auth = content.get("auth")
    if isinstance(auth, Mapping) and not auth.get("path"):
        notices.append("auth is ignored: it names no path")
    elif isinstance(auth, Mapping) and auth.get("disable_studio_auth") is False:
        notices.append(
            "auth.disable_studio_auth: false has no effect: headrace lets nobody past authenticate,"
            " LangGraph Studio neither"
        )
    http, serde = _part(content, "http"), _part(_part(content, "checkpointer"), "serde")
    cors = _part(http, "cors")
    if cors.get("allow_credentials") and "*" in (cors.get("allow_origins") or ()):
        notices.append(
            "http.cors lets every page on the web act with the cookies of a user who opens it;"
            " name the origins"
        )
    for key in ("allowed_msgpack_modules", "allowed_json_modules"):
        if serde.get(key) is True:
            notices.append(
                f"checkpointer.serde.{key} is true: all who can write to the database may run code"
                " here; list the types instead"
            )
    if unknown := _unknown_keys(content):
        notices.append(f"nothing reads {', '.join(unknown)}; is it a typing error?")
    return tuple(notices)


def _unknown_keys(content: Mapping[str, Any]) -> list[str]:
    known = _HONOURED | _FOR_BUILDS | _NOT_YET.keys() | REFUSED.keys()
    unknown = [key for key in content if key not in known and not key.startswith("_")]
    parts = {
        "auth": _KEYS_OF_AUTH,
        "http": _KEYS_OF_HTTP,
        "checkpointer": _KEYS_OF_CHECKPOINTER,
        "store": _KEYS_OF_STORE,
        "webhooks": _KEYS_OF_WEBHOOKS,
    }
    for name, keys in parts.items():
        unknown += [
            f"{name}.{key}"
            for key in _part(content, name)
            if key not in keys and not (name == "http" and key.startswith("disable_"))
        ]
    urls = _part(_part(content, "webhooks"), "url")
    cache = _part(_part(content, "auth"), "cache")
    unknown += [f"auth.cache.{key}" for key in cache if key not in _KEYS_OF_AUTH_CACHE]
    return unknown + [f"webhooks.url.{key}" for key in urls if key not in _KEYS_OF_WEBHOOK_URLS]


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, Mapping) else {}
