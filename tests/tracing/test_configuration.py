"""Which ``OTEL_*`` variables turn traces on, and which values are refused."""

import re
import subprocess
import sys

import pytest

from headrace.errors import StartupRefusal
from headrace.tracing.configuration import TraceConfiguration
from headrace.tracing.opened_tracer import open_tracer
from headrace.tracing.tracer import Tracer

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "shop", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        # Meant for other libraries: nobody asks for traces here.
        {"OTEL_SDK_DISABLED": "1", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
    ],
)
def test_traces_are_off(variables):
    assert TraceConfiguration.of(variables) is None
    assert not open_tracer(variables, count=print).on


@pytest.mark.parametrize(
    ("variables", "asked_by"),
    [
        (ENDPOINT, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces", **ENDPOINT},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, "OTEL_TRACES_EXPORTER"),
    ],
)
def test_traces_are_on(variables, asked_by):
    found = TraceConfiguration.of(variables)
    assert found is not None
    assert found.asked_by == asked_by


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp, console, none"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http", "http/protobuf, grpc or http/json"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "10%", "from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "from 0 to 1"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan", "from 0 to 1"),
        ("OTEL_PROPAGATORS", "b3,tracecontext", "tracecontext, baggage, none"),
        ("OTEL_SDK_DISABLED", "1", "true or false"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http:///v1/traces", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "seconds"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0", "seconds"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "gzip, deflate, none"),
        ("OTEL_BSP_SCHEDULE_DELAY", "5s", "a whole number, 1 or more"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "a whole number, 1 or more"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000", "2048 or less"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many", "a whole number, 0 or more"),
    ],
)
def test_what_cannot_be_followed_is_refused(name, value, told):
    variables = {**ENDPOINT, "OTEL_TRACES_SAMPLER": "traceidratio", name: value}
    with pytest.raises(StartupRefusal, match=rf"HR113 (?=.*{name}).*{re.escape(told)}"):
        TraceConfiguration.of(variables)


def test_a_ratio_without_its_sampler_is_refused():
    with pytest.raises(StartupRefusal, match="Set OTEL_TRACES_SAMPLER=parentbased_traceidratio"):
        TraceConfiguration.of({**ENDPOINT, "OTEL_TRACES_SAMPLER_ARG": "0.1"})


def test_headers_that_would_be_left_out_are_refused_and_not_told():
    variables = {**ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a, x-api-key mysecret"}
    with pytest.raises(StartupRefusal, match="HR113 OTEL_EXPORTER_OTLP_HEADERS") as refused:
        TraceConfiguration.of(variables)
    assert "mysecret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "unset"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "0"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20a==,x-b=c,"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2.5"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
        ("OTEL_SDK_DISABLED", "False"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "HTTPS://collector"),
        ("OTEL_TRACES_SAMPLER", "always_on"),
    ],
)
def test_what_the_sdk_takes_is_not_refused(name, value):
    assert TraceConfiguration.of({**ENDPOINT, name: value}) is not None


@pytest.mark.parametrize("protocol", ["grpc", "http/json"])
def test_a_protocol_without_its_package_is_refused(protocol):
    with pytest.raises(StartupRefusal, match="install opentelemetry-exporter-otlp-"):
        open_tracer({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}, count=print)


def test_callers_are_not_followed_where_propagators_say_so():
    found = TraceConfiguration.of({**ENDPOINT, "OTEL_PROPAGATORS": "baggage"})
    assert found is not None
    assert not found.takes_callers


@pytest.mark.parametrize(
    ("first", "absent"),
    [
        ("headrace.tracing.opened_tracer", ("opentelemetry",)),
        # FastAPI and LangSmith import parts of OpenTelemetry by themselves.
        ("headrace.server.app", ("opentelemetry.exporter", "google.protobuf")),
    ],
)
def test_without_traces_headrace_imports_no_opentelemetry(first, absent):
    code = (
        f"import sys, {first}\n"
        "from headrace.tracing.opened_tracer import open_tracer\n"
        "assert not open_tracer({}, count=print).on\n"
        f"print([name for name in sys.modules if name.startswith({absent})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_tracer_that_is_off_hands_out_what_records_nothing():
    tracer = Tracer()
    assert tracer.request(None).for_run() is None
    assert tracer.request(None).log_fields == {}
    await tracer.close()


async def test_spans_can_be_printed(monkeypatch, capsys):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    tracer = open_tracer({"OTEL_TRACES_EXPORTER": "console"}, count=lambda *_: None)
    scope = {"path": "/ok", "headers": [], "method": "GET"}
    tracer.request(None).end("GET", "/ok", 200, scope)
    await tracer.close()
    assert '"name": "GET /ok"' in capsys.readouterr().err
