"""Opens the tracer of a process: OpenTelemetry is imported only if its variables ask for traces."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

import structlog

from headrace.tracing.configuration import TraceConfiguration
from headrace.tracing.tracer import Tracer

_log = structlog.stdlib.get_logger("headrace.tracing")

#: Called with ``exported``, ``failed`` or ``dropped``, and a number of spans.
CountSpans = Callable[[str, int], None]


def open_tracer(
    variables: Mapping[str, str], *, count: CountSpans, close_seconds: float = 2.0
) -> Tracer:
    """Call it in the process that traces, after the fork: it starts a thread.

    :param variables: those of the environment.
    :param close_seconds: how long closing may take.
    :raises StartupRefusal: HR113 a variable has a value that cannot be followed.
    """
    configuration = TraceConfiguration.of(variables)
    if configuration is None:
        return Tracer()
    try:
        # The one module that imports the SDK. Other rooms know only the base class.
        provider = import_module("headrace.tracing.provider")
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("opentelemetry"):
            raise
        _log.warning(
            "traces_unavailable",
            asked_by=configuration.asked_by,
            remedy="pip install 'headrace[otel]', or set OTEL_SDK_DISABLED=true",
        )
        return Tracer()
    opened = provider.open_provider(configuration, count=count, close_seconds=close_seconds)
    return cast("Tracer", opened)
