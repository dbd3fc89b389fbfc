"""What ``langgraph.json`` may say beside what headrace honours: warned of, refused, or left alone.

Nothing is passed over in silence that its author relies on: what only the building of images reads
is left alone, what is not known or not there yet is warned of, and what would leave open a door or
a database that its author has closed is refused.
"""

from collections.abc import Mapping
from typing import Any

_HONOURED = frozenset({"graphs", "dependencies", "env", "store", "checkpointer", "http"})

#: Read where images are built, or by the user interface.
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

#: Not there yet; without them headrace does less, but nothing that it should not.
_LATER = {
    "crons": "headrace has no crons yet",
    "priority": "headrace takes runs in the order they came in",
    "webhooks": "headrace sends no webhooks yet",
}

#: What they protect would lie open; why, and what to do instead.
REFUSED = {
    "auth": (
        "headrace does not ask it yet who calls, and would let everyone in",
        "HEADRACE_API_KEYS asks callers for a key, as a proxy in front may",
    ),
    "encryption": (
        "headrace does not encrypt yet, and would store everything in plain",
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
    """The first key of ``content`` that must not be passed over."""
    for key in REFUSED:
        value = content.get(key)
        if isinstance(value, str) or (isinstance(value, Mapping) and value.get("path")):
            return key
    return None


def notices_of(content: Mapping[str, Any]) -> tuple[str, ...]:
    """One sentence for each key that does not do what its author may expect."""
    notices = [f"{key} is ignored: {_LATER[key]}" for key in content if key in _LATER]
    if not refused_key(content):
        notices += [f"{key} is ignored: it names no path" for key in REFUSED if content.get(key)]
    if _part(content, "store").get("index"):
        notices.append("store.index is ignored: headrace has no semantic search yet")
    http, serde = _part(content, "http"), _part(_part(content, "checkpointer"), "serde")
    cors = _part(http, "cors")
    if cors.get("allow_credentials") and "*" in (cors.get("allow_origins") or ()):
        notices.append(
            "http.cors lets every page on the web act with the cookies of whoever looks at it;"
            " name the origins"
        )
    if serde.get("pickle_fallback"):
        notices.append(
            "checkpointer.serde.pickle_fallback lets whoever can write to the database run code"
            " here; list the types in allowed_msgpack_modules instead"
        )
    if unknown := _unknown_keys(content):
        notices.append(f"nothing reads {', '.join(unknown)}; is it a typing error?")
    return tuple(notices)


def _unknown_keys(content: Mapping[str, Any]) -> list[str]:
    known = _HONOURED | _FOR_BUILDS | _LATER.keys() | REFUSED.keys()
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
