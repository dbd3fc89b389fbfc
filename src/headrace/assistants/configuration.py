"""The config and context of an assistant, from what a caller sends. Pure functions.

``config.configurable`` and ``context`` are LangGraph's old and new name for one thing. An assistant
stores the value under both names, because some graphs read the old one and some the new one.
"""

from collections.abc import Mapping
from typing import Any

from headrace.errors import BadRequest, InvalidRequest


def stored_configuration(
    config: dict[str, Any] | None, context: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and context to store.

    :raises BadRequest: ``config.configurable`` and ``context`` differ.
    :raises InvalidRequest: ``config.configurable`` is not an object.
    """
    stored = dict(config or {})
    configurable = _configurable(stored)
    if configurable and context and configurable != context:
        raise BadRequest(
            "Cannot specify both config.configurable and context. Send context alone: LangGraph 0.6"
            " replaced configurable by it."
        )
    both = configurable or context or {}
    if both:
        stored["configurable"] = both
    return stored, both


def updated_configuration(
    old_config: Mapping[str, Any],
    old_context: dict[str, Any],
    config: dict[str, Any] | None,
    context: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and context to store after an update, which may send one, both or none.

    An empty config changes nothing. A config without ``configurable`` keeps the old
    ``configurable`` and context. An empty context or ``configurable`` removes both.

    :raises BadRequest: as :func:`stored_configuration`.
    """
    config = config or None
    if config is None and context is None:
        return dict(old_config), old_context
    if config is None:
        rest = {key: value for key, value in old_config.items() if key != "configurable"}
        return stored_configuration(rest, context)
    if context is None and "configurable" not in config:
        return stored_configuration(config, old_context)
    return stored_configuration(config, context)


def _configurable(config: dict[str, Any]) -> dict[str, Any]:
    configurable = config.get("configurable") or {}
    if not isinstance(configurable, dict):
        raise InvalidRequest("config.configurable must be an object.")
    return configurable
