"""Whatever callers and graphs say, a log line stays one line, and a terminal obeys none of it."""

import json
import logging
from io import StringIO

import pytest
import structlog

from headrace.observability.logging import configure_logging
from headrace.observability_settings import ObservabilitySettings
from headrace.settings import Settings

FORGED = "2026-01-01T00:00:00Z [info     ] run_ended status=success"
BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029")
CONTROLS = ("\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\b\b\b", "\x00", "\x7f", "\u202e")


class Failed(Exception):
    """Of a graph's."""


@pytest.fixture(params=["json", "console", "short"])
def log(request: pytest.FixtureRequest):
    """What a process writes, in each of the forms."""
    said = StringIO()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    structlogs = structlog.get_config()
    processors = structlogs["processors"][:]
    settings: ObservabilitySettings = Settings().observability.model_copy(
        update={"log_format": request.param}
    )
    configure_logging(settings, stream=said)
    yield request.param, said
    structlogs["processors"][:] = processors
    structlog.configure(**structlogs)
    logging.getLogger().handlers, level = before[0], before[1]
    logging.getLogger().setLevel(level)


def say(odd: str) -> None:
    """Through each way into a line."""
    ours = structlog.stdlib.get_logger("headrace.test")
    theirs = logging.getLogger("somebody.elses")
    path = f"/threads/{odd}"
    ours.info("request_answered", method=f"GET{odd}", path=path, route="-", status=404, seconds=0.1)
    ours.error("failed", error=odd, nested={odd: [odd, {"a": odd}]}, items=(odd,))
    theirs.error("cannot do %s", odd)
    theirs.error(odd)
    for logger in (ours, theirs):
        try:
            raise Failed(odd) from ValueError(odd)
        except Failed:
            logger.exception("run_failed")


@pytest.mark.parametrize("piece", BREAKS, ids=ascii)
def test_no_text_begins_a_line_of_its_own(log, piece):
    form, said = log
    say(f"x{piece}{FORGED}{piece}")
    text = said.getvalue()
    assert text.count("run_ended") >= 8
    lines = text.splitlines()
    assert not [line for line in lines if line.startswith(FORGED[:10])]
    assert len(lines) == len(text.split("\n")) - 1
    if form == "json":
        assert len(lines) == 6
        assert json.loads(lines[1])["error"] == f"x{piece}{FORGED}{piece}"
    else:
        # A line is ours, or it is indented.
        assert len([line for line in lines if not line.startswith("    ")]) == 6


@pytest.mark.parametrize("piece", CONTROLS, ids=ascii)
def test_no_text_reaches_the_terminal_as_an_order(log, piece):
    form, said = log
    say(f"x{piece}y")
    text = said.getvalue()
    assert piece not in text
    assert not {"\x1b", "\x9b", "\b", "\x07", "\x00", "\x7f", "\u202e"} & set(text)
    if form == "json":
        assert json.loads(text.splitlines()[1])["error"] == f"x{piece}y"
