"""What an assistant says, from what a caller sends; pure.

``config.configurable`` and ``context`` are LangGraph's old and new name of one thing. An assistant
holds both, alike, so that graphs of either kind find it.
"""

from collections.abc import Mapping
from typing import Any

from headrace.errors import BadRequest, InvalidRequest


def mirrored(
    config: dict[str, Any] | None, context: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config and context as they are stored.

    :raises BadRequest: both are given, and differ.
    :raises InvalidRequest: ``config.configurable`` is no object.
    """
    stored = dict(config or {})
    configurable = _configurable(stored)
    if configurable and context and configurable != context:
        raise BadRequest(
            "Cannot specify both config.configurable and context. Send context alone: it takes the"
            " place of configurable since LangGraph 0.6."
        )
    both = configurable or context or {}
    if both:
        stored["configurable"] = both
    return stored, both


def changed(
    old_config: Mapping[str, Any],
    old_context: dict[str, Any],
    config: dict[str, Any] | None,
    context: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config and context after an update that gives either, both, or none.

    An empty config asks for nothing. A config without ``configurable`` leaves that, and the
    context, as they were. An empty context, or ``configurable``, removes both.

    :raises BadRequest: as :func:`mirrored`.
    """
    config = config or None
    if config is None and context is None:
        return dict(old_config), old_context
    if config is None:
        rest = {key: value for key, value in old_config.items() if key != "configurable"}
        return mirrored(rest, context)
    if context is None and "configurable" not in config:
        return mirrored(config, old_context)
    return mirrored(config, context)


def _configurable(config: dict[str, Any]) -> dict[str, Any]:
    configurable = config.get("configurable") or {}
    if not isinstance(configurable, dict):
        raise InvalidRequest("config.configurable must be an object.")
    return configurable
