"""OpenTelemetry's environment variables, as far as they decide whether and how spans are sent.

The SDK reads the others (endpoint, headers, batches) by itself. What it would replace by a default
is refused before, and so is what would let it raise. Source:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.errors import StartupRefusal

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = ("otlp", "console", "none")
_PROPAGATORS = ("tracecontext", "baggage", "none")
_SAMPLERS = ("always_on", "always_off", "traceidratio")
_COMPRESSIONS = ("gzip", "deflate", "none")
_HEADERS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\s*=.*")
_QUEUE, _BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
#: The SDK's own sizes, in spans.
_QUEUE_SPANS, _BATCH_SPANS = 2048, 512
_AT_LEAST_ONE = (_QUEUE, _BATCH, "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT")
_LIMITS = tuple(
    f"OTEL_{name}_LIMIT"
    for name in (
        "ATTRIBUTE_COUNT",
        "ATTRIBUTE_VALUE_LENGTH",
        "SPAN_ATTRIBUTE_COUNT",
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
        "SPAN_EVENT_COUNT",
        "SPAN_LINK_COUNT",
        "EVENT_ATTRIBUTE_COUNT",
        "LINK_ATTRIBUTE_COUNT",
    )
)
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
        named = "OTEL_TRACES_EXPORTER"
        asked_by = next((one for one in (named, *_ENDPOINTS) if one in given), "")
        if not asked_by or _flag(given, "OTEL_SDK_DISABLED"):
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
        _check_exporter(given, protocol)
        _check_sizes(given)
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
    """:raises StartupRefusal: it is neither true nor false."""
    value = given.get(name, "false").lower()
    if value not in ("true", "false"):
        raise _refusal(name, given[name], "Set true or false.")
    return value == "true"


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
    if not sampler and argument in given:
        raise _refusal(argument, given[argument], f"Set {name}=parentbased_traceidratio too.")
    if not sampler.endswith("traceidratio") or argument not in given:
        return
    try:
        valid = 0.0 <= float(given[argument]) <= 1.0
    except ValueError:
        valid = False
    if not valid:
        raise _refusal(argument, given[argument], "Set a number from 0 to 1, such as 0.1.")


def _check_exporter(given: Mapping[str, str], protocol: str) -> None:
    """:raises StartupRefusal: no span could be sent with these variables."""
    for name in _ENDPOINTS if protocol != "grpc" else ():
        if name in given and not re.match(r"https?://[^/]", given[name], re.IGNORECASE):
            raise _refusal(name, given[name], "Set a URL such as http://collector:4318.")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        if name in given and not _is_positive(given[name]):
            raise _refusal(name, given[name], "Set seconds, such as 10.")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"):
        if given.get(name, "none").lower() not in _COMPRESSIONS:
            raise _refusal(name, given[name], f"Set one of: {', '.join(_COMPRESSIONS)}.")
    for name in _HEADERS:
        parts = (part.strip() for part in given.get(name, "").split(","))
        if not all(_HEADER.fullmatch(part) for part in parts if part):
            # The value is a secret: it is not told.
            raise _refusal(
                name, "***", "Set name=value pairs with commas between them, percent-encoded."
            )


def _check_sizes(given: Mapping[str, str]) -> None:
    """:raises StartupRefusal: a size or a limit is no number that the SDK takes."""
    for names, least in ((_AT_LEAST_ONE, 1), (_LIMITS, 0)):
        for name in names:
            value = given.get(name, "unset").lower()
            if name in _LIMITS and value == "unset":
                continue
            if name in given and not (re.fullmatch("[0-9]{1,9}", value) and int(value) >= least):
                raise _refusal(name, given[name], f"Set a whole number, {least} or more.")
    queue, batch = int(given.get(_QUEUE, _QUEUE_SPANS)), int(given.get(_BATCH, _BATCH_SPANS))
    if batch > queue:
        raise _refusal(_BATCH, str(batch), f"Set {queue} or less, or raise {_QUEUE}.")


def _is_positive(text: str) -> bool:
    try:
        return 0.0 < float(text) < float("inf")
    except ValueError:
        return False
