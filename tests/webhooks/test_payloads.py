"""The body of a call: one JSON object, never larger than allowed."""

import json
from datetime import UTC, datetime

from headrace.webhooks.payloads import payload, result_json

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUN = b'{"run_id": "r", "status": "success", "kwargs": {"input": {"x": 1}}}'


def body(run: bytes = RUN, result: bytes | None = None, *, max_bytes: int = 10_000):
    made = payload(run, result, max_bytes=max_bytes, now=NOW)
    assert len(made) <= max_bytes
    return json.loads(made)


def test_the_body_is_the_run_with_what_it_has_left():
    result = result_json(b'{"a":1}', b'[{"id":"i"}]', max_bytes=100)
    assert body(result=result) == {
        "run_id": "r",
        "status": "success",
        "kwargs": {"input": {"x": 1}},
        "webhook_version": 1,
        "webhook_sent_at": "2026-01-02T03:04:05+00:00",
        "values": {"a": 1},
        "interrupts": [{"id": "i"}],
    }


def test_without_a_result_the_values_are_null():
    made = body()
    assert made["values"] is None
    assert "interrupts" not in made
    assert "values_omitted" not in made


def test_values_that_are_too_large_are_left_out_and_that_is_said():
    large = b'"' + b"x" * 500 + b'"'
    for result in (result_json(large, None, max_bytes=400), result_json(None, None, max_bytes=400)):
        made = body(result=result)
        assert made["values"] is None
        assert made["values_omitted"]
    made = body(result=result_json(large, b"[]", max_bytes=1000), max_bytes=400)
    assert made["values"] is None
    assert "bytes" in made["values_omitted"]
    assert made["kwargs"] == {"input": {"x": 1}}


def test_arguments_that_are_too_large_are_left_out_after_the_values():
    run = json.dumps({"run_id": "r", "kwargs": {"input": "x" * 500}}).encode()
    made = body(run, result_json(b"1", None, max_bytes=100), max_bytes=400)
    assert (made["kwargs"], made["values"], made["run_id"]) == ({}, None, "r")
    assert made["kwargs_omitted"]
