"""What of callers' ``traceparent`` and ``tracestate`` counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.tracing.trace_context import TraceContext, given_context, stored_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"


def of(*parents: str, state: tuple[str, ...] = ()) -> TraceContext | None:
    headers = [(b"traceparent", one.encode("latin-1")) for one in parents]
    headers += [(b"tracestate", one.encode("latin-1")) for one in state]
    return given_context([(b"host", b"a"), *headers])


def test_a_valid_one_is_taken():
    assert of(VALID) == TraceContext(TRACE, SPAN, sampled=True)
    assert of(f"00-{TRACE}-{SPAN}-00") == TraceContext(TRACE, SPAN, sampled=False)
    # Only the last bit of the flags says whether it is sampled.
    assert of(f"00-{TRACE}-{SPAN}-fe") == TraceContext(TRACE, SPAN, sampled=False)


def test_a_later_version_may_have_more_fields():
    assert of(f"01-{TRACE}-{SPAN}-01-what-is-new") == TraceContext(TRACE, SPAN, sampled=True)
    assert of(f"cc-{TRACE}-{SPAN}-01") is not None


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"{VALID}-more",
        f"{VALID}-",
        f"01-{TRACE}-{SPAN}-01.more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0x",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE}-{SPAN}-01\nx",
    ],
)
def test_a_malformed_one_counts_as_none(parent):
    assert of(parent) is None


def test_two_count_as_none():
    assert of(VALID, VALID) is None
    assert of() is None


@pytest.mark.parametrize(
    ("given_states", "kept"),
    [
        (("a=1",), "a=1"),
        (("a=1, b=2 ,", "c=3"), "a=1,b=2,c=3"),
        (("tenant@vendor=x y",), "tenant@vendor=x y"),
        (("a=1,B=2",), ""),
        (("a",), ""),
        (("a=\xe9",), ""),
        (("a=" + "x" * 511,), ""),
        ((",".join(f"k{number}=1" for number in range(33)),), ""),
    ],
)
def test_a_malformed_state_is_left_out(given_states, kept):
    found = of(VALID, state=given_states)
    assert found is not None
    assert found.state == kept


@given(
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    sampled=st.booleans(),
    state=st.sampled_from(["", "a=1", "a=1,b=2"]),
)
def test_what_is_stored_is_read_again(trace_id, span_id, sampled, state):
    context = TraceContext(f"{trace_id:032x}", f"{span_id:016x}", sampled, state)
    assert stored_context(context.text) == context


@pytest.mark.parametrize("text", [None, "", "x", 3, f"{VALID}x", [VALID]])
def test_what_another_program_has_stored_is_checked(text):
    assert stored_context(text) is None
