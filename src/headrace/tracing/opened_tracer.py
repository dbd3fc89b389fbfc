"""Opens the tracer of a process: OpenTelemetry is imported only if its variables ask for traces."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import cast

import structlog

from headrace.errors import StartupRefusal
from headrace.tracing.configuration import TraceConfiguration
from headrace.tracing.tracer import Tracer

_log = structlog.stdlib.get_logger("headrace.tracing")

#: The one module that imports the SDK. Other rooms know only the base class of what it opens.
_PROVIDER = "headrace.tracing.provider"

#: Called with ``exported``, ``failed`` or ``dropped``, and a number of spans.
CountSpans = Callable[[str, int], None]


def import_opentelemetry(variables: Mapping[str, str]) -> None:
    """Import what :func:`open_tracer` will need, if traces are asked for: before the fork, so that
    processes share its memory. Does not complain; the processes do.
    """
    with suppress(StartupRefusal, ModuleNotFoundError):
        if TraceConfiguration.of(variables) is not None:
            import_module(_PROVIDER)


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
        provider = import_module(_PROVIDER)
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
