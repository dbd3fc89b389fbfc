"""OpenTelemetry's environment variables, as far as they decide whether and how spans are sent.

The SDK reads the others (endpoint, headers, batches) by itself. Source:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.errors import StartupRefusal

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = ("otlp", "console", "none")
_PROPAGATORS = ("tracecontext", "baggage", "none")
_SAMPLERS = ("always_on", "always_off", "traceidratio")
SAMPLERS = (*_SAMPLERS, *(f"parentbased_{name}" for name in _SAMPLERS))


@dataclass(frozen=True, slots=True)
class TraceConfiguration:
    """Checked: the SDK accepts it, and does what it says."""

    #: ``otlp`` and ``console``; without any, no traces are asked for.
    exporters: tuple[str, ...]
    #: The variable that asked for traces, for the log.
    asked_by: str
    #: ``http/protobuf``, ``grpc`` or ``http/json``.
    protocol: str
    #: Whether callers' ``traceparent`` is taken.
    takes_callers: bool
    #: Whether the operator names the service.
    names_service: bool

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "TraceConfiguration | None":
        """What the ``OTEL_*`` variables ask for; None if they ask for no traces.

        :raises StartupRefusal: HR113 a variable has a value that cannot be followed.
        """
        given = {name: value.strip() for name, value in variables.items() if value.strip()}
        if _flag(given, "OTEL_SDK_DISABLED"):
            return None
        named = "OTEL_TRACES_EXPORTER"
        asked_by = next((one for one in (named, *_ENDPOINTS) if one in given), "")
        if not asked_by:
            return None
        exporters = _words(given, named, _EXPORTERS) or ("otlp",)
        if "none" in exporters:
            return None
        _check_sampler(given)
        propagators = _words(given, "OTEL_PROPAGATORS", _PROPAGATORS)
        name = next((one for one in _PROTOCOLS if one in given), _PROTOCOLS[1])
        protocol = given.get(name, "http/protobuf")
        if protocol not in ("http/protobuf", "grpc", "http/json"):
            raise _refusal(name, protocol, "Set http/protobuf, grpc or http/json.")
        return cls(
            exporters=exporters,
            asked_by=asked_by,
            protocol=protocol,
            takes_callers=not propagators or "tracecontext" in propagators,
            names_service="OTEL_SERVICE_NAME" in given
            or "service.name=" in given.get("OTEL_RESOURCE_ATTRIBUTES", ""),
        )


def refuse_protocol(protocol: str, package: str) -> StartupRefusal:
    """The refusal of a protocol whose package is not installed."""
    return _refusal(_PROTOCOLS[1], protocol, f"Set http/protobuf, or install {package}.")


def _refusal(name: str, value: str, remedy: str) -> StartupRefusal:
    return StartupRefusal(
        "HR113", where=name, what=f"is {value!r}, which headrace cannot follow", remedy=remedy
    )


def _flag(given: Mapping[str, str], name: str) -> bool:
    return given.get(name, "false").lower() == "true"


def _words(given: Mapping[str, str], name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """:raises StartupRefusal: one of the words is not known."""
    words = tuple(word for part in given.get(name, "").split(",") if (word := part.strip()))
    for word in words:
        if word not in known:
            raise _refusal(name, word, f"Set some of: {', '.join(known)}.")
    return words


def _check_sampler(given: Mapping[str, str]) -> None:
    """The SDK replaces what it does not know by its default, with a warning: too many spans.

    :raises StartupRefusal: the sampler, or its ratio, is not one of the SDK's.
    """
    name, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
    sampler = given.get(name, "").lower()
    if sampler and sampler not in SAMPLERS:
        raise _refusal(name, sampler, f"Set one of: {', '.join(SAMPLERS)}.")
    if not sampler.endswith("traceidratio") or argument not in given:
        return
    try:
        valid = 0.0 <= float(given[argument]) <= 1.0
    except ValueError:
        valid = False
    if not valid:
        raise _refusal(argument, given[argument], "Set a number from 0 to 1, such as 0.1.")
