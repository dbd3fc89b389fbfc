"""Frames as clients split them, each at what it takes for the end of a line."""

import json
import re

import pytest

from headrace.events.event import Event
from headrace.events.sse import data_of, frame

#: All that ``str.splitlines`` splits at, which httpx's ``iter_lines`` does too.
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}"


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_no_text_of_a_value_ends_a_line(end):
    event = Event.of(7, "values", {f"k{end}": f"a{end}b{end}{end}"}, resumable=True)
    lines = event.frame.decode().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["event", "data", "id", ""]
    assert json.loads(lines[1].removeprefix("data: ")) == {f"k{end}": f"a{end}b{end}{end}"}
    assert data_of(event.frame) == event.data


@pytest.mark.parametrize("end", [*LINE_ENDS, "\0"], ids=ascii)
def test_nor_does_the_name_of_a_node(end):
    event = Event.of(7, f"updates|no{end}de", {}, resumable=True)
    assert event.frame.decode().splitlines()[0] == "event: updates|no de"


def test_what_older_releases_have_stored_is_escaped_too():
    stored = Event.stored(1, "values", '["a\N{LINE SEPARATOR}b"]'.encode(), resumable=False)
    assert rb"a\u2028b" in stored.frame


def test_nothing_else_is_changed():
    data = '{"a":"\N{LATIN SMALL LETTER E WITH ACUTE}\N{SNOWMAN}\N{GRINNING FACE}"}'.encode()
    assert data_of(frame("values", data, "run:1")) == data
    assert re.fullmatch(
        rb"event: values\r\ndata: .*\r\nid: run:1\r\n\r\n", frame("values", data, "run:1")
    )
