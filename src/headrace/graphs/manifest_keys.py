"""Keys of ``langgraph.json`` that headrace does not use: ignored, warned about, or refused.

Keys for building images are ignored. Unknown keys, and keys that headrace does not support yet,
cause a warning. Keys that protect a server or its data are refused: without them it would be open.
"""

from collections.abc import Mapping
from typing import Any

_HONOURED = frozenset({"graphs", "dependencies", "env", "store", "checkpointer", "http"})

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
    "crons": "headrace has no crons yet",
    "priority": "headrace takes runs in the order they came in",
    "webhooks": "headrace sends no webhooks yet",
}

#: Keys that protect something: why headrace refuses them, and the remedy.
REFUSED = {
    "auth": (
        "headrace does not support it yet, and would let everyone in",
        "HEADRACE_API_KEYS asks callers for a key, as a proxy in front may",
    ),
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
        "enable_custom_route_auth",
        "logging_headers",
        "middleware_order",
        "mount_prefix",
    }
)
_KEYS_OF_CHECKPOINTER = frozenset({"path", "serde", "ttl"})
_KEYS_OF_STORE = frozenset({"index", "ttl"})


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
    if _part(content, "store").get("index"):
        notices.append("store.index is ignored: headrace has no semantic search yet")
    http, serde = _part(content, "http"), _part(_part(content, "checkpointer"), "serde")
    cors = _part(http, "cors")
    if cors.get("allow_credentials") and "*" in (cors.get("allow_origins") or ()):
        notices.append(
            "http.cors lets every page on the web act with the cookies of a user who opens it;"
            " name the origins"
        )
    if serde.get("pickle_fallback"):
        notices.append(
            "checkpointer.serde.pickle_fallback lets all who can write to the database run code"
            " here; list the types in allowed_msgpack_modules instead"
        )
    if unknown := _unknown_keys(content):
        notices.append(f"nothing reads {', '.join(unknown)}; is it a typing error?")
    return tuple(notices)


def _unknown_keys(content: Mapping[str, Any]) -> list[str]:
    known = _HONOURED | _FOR_BUILDS | _NOT_YET.keys() | REFUSED.keys()
    unknown = [key for key in content if key not in known and not key.startswith("_")]
    parts = {
        "http": _KEYS_OF_HTTP,
        "checkpointer": _KEYS_OF_CHECKPOINTER,
        "store": _KEYS_OF_STORE,
    }
    for name, keys in parts.items():
        unknown += [
            f"{name}.{key}"
            for key in _part(content, name)
            if key not in keys and not (name == "http" and key.startswith("disable_"))
        ]
    return unknown


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, Mapping) else {}
