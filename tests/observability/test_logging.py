"""Log lines as they leave a process: their form, what is bound to them, what is never in them."""

import json
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.observability.masking import is_plain, mask_secrets, mask_text
from tests.support.sources import ROOT

_PREAMBLE = """
import logging, structlog
from headrace.observability.logging import configure_logging
from headrace.settings import Settings
configure_logging(Settings().observability)
log = structlog.stdlib.get_logger("headrace.test")
"""

SECRET = "g3h/eim"


def start(script: str, stderr: int, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _PREAMBLE + script],
        env={"PYTHONPATH": str(ROOT / "src"), "TERM": "xterm", **environment},
        stderr=stderr,
    )


def lines_of(script: str, **environment: str) -> list[str]:
    process = start(script, subprocess.PIPE, **environment)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode().splitlines()


def events_of(script: str, **environment: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines_of(script, **environment)]


def shown_on_a_terminal(script: str, **environment: str) -> str:
    ours, theirs = pty.openpty()
    with start(script, theirs, **environment) as process:
        assert process.wait() == 0
    os.close(theirs)
    with open(ours, "rb") as screen:
        return screen.read1().decode()


def test_lines_are_json_with_time_level_and_logger() -> None:
    (event,) = events_of('log.info("run_ended", seconds=0.5)')
    assert str(event.pop("timestamp")).endswith("Z")
    assert event == {
        "event": "run_ended",
        "level": "info",
        "logger": "headrace.test",
        "seconds": 0.5,
    }


def test_bound_ids_are_in_every_line_and_not_beyond() -> None:
    inside, foreign, after = events_of("""
ids = {"request_id": "r", "thread_id": "t", "run_id": "u"}
with structlog.contextvars.bound_contextvars(**ids):
    log.info("run_ended")
    logging.getLogger("somebody.elses").warning("careful")
log.info("run_ended")
""")
    ids = {"request_id": "r", "thread_id": "t", "run_id": "u"}
    assert inside.items() >= ids.items()
    assert foreign.items() >= {**ids, "event": "careful", "logger": "somebody.elses"}.items()
    assert not ids.keys() & after.keys()


def test_a_terminal_gets_the_console_form_in_colour() -> None:
    shown = shown_on_a_terminal('log.info("run_ended", seconds=0.5)')
    assert "run_ended" in shown
    assert "\x1b[" in shown
    assert "{" not in shown


def test_a_terminal_gets_json_when_asked_to() -> None:
    shown = shown_on_a_terminal('log.info("run_ended")', HEADRACE_OBSERVABILITY__LOG_FORMAT="json")
    assert json.loads(shown)["event"] == "run_ended"


def test_the_console_form_into_a_file_has_no_colour() -> None:
    (line,) = lines_of('log.info("run_ended")', HEADRACE_OBSERVABILITY__LOG_FORMAT="console")
    assert "run_ended" in line
    assert "\x1b" not in line


def test_less_than_the_level_is_not_written() -> None:
    script = 'log.info("run_ended"); log.warning("run_failed")'
    events = events_of(script, HEADRACE_OBSERVABILITY__LOG_LEVEL="warning")
    assert [event["event"] for event in events] == ["run_failed"]


def test_the_last_configuration_wins_and_lines_come_once() -> None:
    events = events_of("""
configure_logging(Settings().observability)
log.info("run_ended")
logging.getLogger("uvicorn.error").error("Exception in ASGI application")
logging.getLogger("uvicorn.access").info("GET /")
""")
    assert [event["event"] for event in events] == ["run_ended", "Exception in ASGI application"]


def test_a_traceback_is_one_line() -> None:
    ours, foreign = events_of("""
try:
    1 / 0
except ZeroDivisionError:
    log.exception("run_failed")
    logging.getLogger("somebody.elses").exception("failed")
""")
    for event in (ours, foreign):
        assert "ZeroDivisionError: division by zero" in str(event["exception"])
        assert event["level"] == "error"


def test_what_json_cannot_say_is_said_as_text() -> None:
    (event,) = events_of('log.info("run_ended", what={1: {2}, "o": object}, raw=b"x")')
    assert event["raw"] == "b'x'"
    assert "object" in str(event["what"])


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_line_holds_the_database_password(log_format: str) -> None:
    text = "\n".join(
        lines_of(
            f"""
import psycopg
url = "postgresql://ada:{SECRET}@db.internal:5432/app"
dsn = "host=db.internal user=ada password={SECRET} dbname=app"
settings = Settings()
log.info("pool_opened", database=url, settings=settings, nested={{"urls": [url, dsn]}})
log.info(f"connecting to {{url}}")
log.info("connecting to %s", dsn)
log.info("pool_opened", password="{SECRET}", db_password="{SECRET}", api_key="{SECRET}")
logging.getLogger("somebody.elses").error("cannot reach %s or %s", url, dsn)
logging.getLogger("somebody.elses").error("options %r", {{"password": "{SECRET}"}})
log.info("pool_opened", options="password = '{SECRET}' user = ada", env="PGPASSWORD={SECRET}")
try:
    raise psycopg.OperationalError(f"connection to {{url}} failed ({{dsn}})")
except psycopg.OperationalError as error:
    log.exception("database_lost", error=error)
    logging.getLogger("somebody.elses").exception("lost")
""",
            DATABASE_URL=f"postgresql://ada:{SECRET}@db.internal:5432/app",
            HEADRACE_OBSERVABILITY__LOG_FORMAT=log_format,
        )
    )
    assert text.count("db.internal") >= 10
    assert SECRET not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8123/threads/a@b",
        "postgresql://db:5432/app?options=ab",
        "postgresql://ada@db:5432/app",
        "the event: database_lost",
        "12:00:01",
        "https://example.test/?token_count=3",
    ],
)
def test_what_holds_no_secret_stays_readable(url: str) -> None:
    assert mask_text(url) == url


@pytest.mark.parametrize(
    "secret", ["geheim", "p@ss", "a/b", "a:b", "a#b", "a?b", "12345/x", "€", "x" * 2000]
)
def test_whatever_the_password_is_made_of_it_is_masked(secret: str) -> None:
    assert mask_text(f"to postgresql://ada:{secret}@db:5432/app now") == (
        "to postgresql://ada:***@db:5432/app now"
    )


def test_a_password_behind_another_address_is_masked() -> None:
    said = mask_text("see http://docs:80/?from=postgresql://ada:geheim@db/app")
    assert said == "see http://docs:80/?from=postgresql://ada:***@db/app"


def test_fields_that_are_named_like_secrets_are_masked_at_any_depth() -> None:
    event = {
        "event": "run_ended",
        "headers": {"Authorization": "Bearer x", "cookie": "y"},
        "keys": [{"api_key": "z"}],
        "token": None,
        "tokens": 12,
    }
    assert mask_secrets(None, "info", event) == {
        "event": "run_ended",
        "headers": {"Authorization": "***", "cookie": "***"},
        "keys": [{"api_key": "***"}],
        "token": None,
        "tokens": 12,
    }


def test_handlers_and_filters_of_the_user_get_our_records_too() -> None:
    script = """
class Collector(logging.Handler):
    def emit(self, record):
        print("collected", record.name, record.msg["event"], file=sys.stderr)

import sys
log.info("alone")
logging.getLogger({name!r}).addHandler(collector := Collector())
log.info("together")
logging.getLogger({name!r}).removeHandler(collector)
log.info("alone_again")
logging.getLogger("headrace.test").addFilter(lambda record: record.msg["event"] != "unwanted")
log.info("unwanted")
log.info("wanted")
"""
    for name in ("", "headrace", "headrace.test"):
        lines = lines_of(script.format(name=name))
        assert lines.count("collected headrace.test together") == 1
        told = [json.loads(line)["event"] for line in lines if line.startswith("{")]
        assert told == ["alone", "together", "alone_again", "wanted"]


@pytest.mark.parametrize("method", ["callHandlers", "handle"])
def test_what_listens_inside_the_standard_library_gets_our_records_too(method: str) -> None:
    script = """
import functools, sys
own = logging.Logger.{0}

@functools.wraps(own)
def listen(logger, record):
    print("collected", record.msg["event"], file=sys.stderr)
    return own(logger, record)

logging.Logger.{0} = listen
log.error("run_failed")
logging.Logger.{0} = own
log.error("alone")
"""
    lines = lines_of(script.format(method))
    assert lines.count("collected run_failed") == 1
    assert len(lines) == 3


def test_our_handler_obeys_what_the_user_has_set() -> None:
    script = """
import sys
handler = logging.getLogger().handlers[0]
handler.setLevel("ERROR")
log.info("unwanted")
handler.setFormatter(logging.Formatter("mine: %(name)s"))
log.error("wanted")
logging.disable()
log.error("disabled")
"""
    assert lines_of(script) == ["mine: headrace.test"]


def test_a_line_that_cannot_be_written_raises_nothing() -> None:
    script = """
logging.raiseExceptions = False
logging.getLogger().handlers[0].setStream(open("/dev/full", "w", buffering=1))
log.info("run_ended")
print("went on", file=sys.stderr)
"""
    lines = lines_of("import sys" + script)
    assert lines[-1] == "went on"


def test_a_signal_handler_that_logs_while_a_line_is_written_raises_nothing() -> None:
    script = """
import io, sys
logging.raiseExceptions = False

class Raw(io.RawIOBase):
    def writable(self):
        return True
    def write(self, data):
        log.info("within")  # as a signal handler would
        return len(data)

stream = io.TextIOWrapper(io.BufferedWriter(Raw()), line_buffering=True)
logging.getLogger().handlers[0].setStream(stream)
log.info("outer")
print("went on", file=sys.stderr)
"""
    assert lines_of(script) == ["went on"]


_TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "Bearer abc",
            "postgresql://a:b@c/d",
            "password=x",
            "sk-12345678901",
            "?sig=x",
            "ghp_0123456789abcdef",
            "Basic dXNlcjpwYXNz",
            "Set-Cookie: a=b",
            "a\nb",
            "https://x/?key=1",
            "AKIA0123456789ABCDEF",
            "eyJhbGciOiJI.eyJzdWIi.c2ln",
        ]
    ),
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["event", "error", "api_key", "token", "tokens", "Cookie", "path"]),
        st.one_of(_TEXTS, st.none(), st.integers(), st.lists(_TEXTS, max_size=2)),
    )
)
def test_an_event_that_counts_as_plain_has_nothing_to_mask(event: dict[str, object]) -> None:
    if is_plain(event, 1000):
        assert mask_secrets(None, "info", dict(event)) == event


def test_most_events_count_as_plain() -> None:
    assert is_plain({"event": "run_ended", "thread_id": "t", "seconds": 0.1, "cause": None}, 1000)
    assert not is_plain({"event": "run_ended", "error": "x" * 1001}, 1000)
