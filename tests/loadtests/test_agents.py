"""`make agents` in small, its fake model against LangChain's client, and how it judges."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from loadtests.agents.levels import carried, largest_carried, saturated
from loadtests.agents.model_server import model_server
from loadtests.agents.parts import REST, part_of, shares
from loadtests.agents.report import charts, extrapolated, lines, section
from loadtests.agents.tokens import clock, since, token_text, tokens_in
from loadtests.agents.visitors import BETWEEN, DELAY, FIRST, GAP, RUN, START, TO_FIRST, TokenReader
from loadtests.agents.workload import ANSWERS, CHECKPOINTS, TOOL_CALLS, TOOL_SECONDS, Workload
from loadtests.measuring.client import Outcome, Visitor
from loadtests.measuring.http_stream import Reply
from tests.support.load import measuring
from tests.support.sources import ROOT

QUICK = Workload(20, first_token_seconds=0.01, token_seconds=0.002)


@measuring
@pytest.mark.acceptance
@pytest.mark.alone
@pytest.mark.timeout(180)
def test_the_short_form_hears_every_token_in_order_and_has_all_figures(tmp_path, database_url):
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.agents", "--short", "--results", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (tmp_path / "agents.json").exists(), done.stdout + done.stderr
    result = json.loads((tmp_path / "agents.json").read_text())
    assert result["machine"]["loop_milliseconds"] > 0
    rounds = result["beside_ceiling"]["rounds"]
    levels = [*result["levels"], *rounds["headrace"], *rounds["plain"]]
    assert len(levels) == 3
    for level in levels:
        assert level["faults"] == {}
        assert level["loop_milliseconds"] > 0
        assert level["tokens"] > 100
        assert {FIRST, GAP, DELAY, TO_FIRST, START, BETWEEN} <= set(level["milliseconds"])
        assert {"server", "model", "client"} <= set(level["cores"])
    assert set(result["checkpoints_per_run"]) == {str(CHECKPOINTS)}
    assert result["levels"][0]["connections"] >= 2
    assert result["beside_ceiling"]["ratio"]["median"] > 0
    assert section(result)
    assert set(charts(result)) == {"agents.svg"}


@tool
def look_up(query: str) -> str:
    """Find what is known."""
    return query


async def test_the_fake_model_answers_as_openai_does_and_calls_three_tools(tmp_path):
    with model_server(tmp_path, QUICK) as server:
        bare = ChatOpenAI(
            model="fake-model",
            stream_usage=True,
            base_url=f"{server.url}/v1",
            api_key=cast(Any, "none"),
        )
        model = bare.bind_tools([look_up])
        messages: list[AnyMessage] = [HumanMessage("hello")]
        heard: list[tuple[int, float]] = []
        for turn in range(ANSWERS):
            whole: Any = None
            async for chunk in model.astream(messages):
                whole = chunk if whole is None else whole + chunk
            assert isinstance(whole, AIMessage)
            assert whole.usage_metadata is not None
            assert whole.usage_metadata["output_tokens"] == QUICK.tokens_per_answer
            said = whole.text + "".join(call["args"]["query"] for call in whole.tool_calls)
            heard += [(int(one.partition(".")[0]), turn) for one in said.split()]
            assert bool(whole.tool_calls) is (turn < TOOL_CALLS)
            messages.append(whole)
            messages += [ToolMessage("found", tool_call_id=call["id"]) for call in whole.tool_calls]
        refused = server.ask("POST", "/v1/chat/completions", {"messages": []})
    assert [number for number, _ in heard] == list(range(QUICK.tokens_per_run))
    assert refused[0] == 400


def events(count: int, *, first: int = 0) -> list[bytes]:
    """A stream in the chunks of HTTP, one event in each."""
    told = []
    for number in range(first, first + count):
        text = token_text(number, clock() if number % QUICK.tokens_per_answer == 0 else None)
        where = b'[{"content":"%b"}]'
        if number % QUICK.tokens_per_answer == QUICK.tokens_per_answer - 1:
            # As LangChain has it: the same text twice in one event.
            where = (
                b'[{"content":"","invalid_tool_calls":[{"name":null,"args":"%b"}],'
                b'"tool_call_chunks":[{"name":null,"args":"%b","id":null}]}]'
            )
            where = where % (text, text)
        else:
            where = where % text
        told.append(b"event: messages\r\ndata: " + where + b"\r\n\r\n")
    whole = b"".join(token_text(number) for number in range(first, first + count))
    told.append(b'event: values\r\ndata: {"messages":[{"content":"' + whole + b'"}]}\r\n\r\n')
    return [b"%x\r\n%b\r\n" % (len(one), one) for one in told]


def read(pieces: list[bytes], *, body: bytes = b'{"status":"success"}') -> Outcome:
    outcome = Outcome()
    visitor = cast(Visitor, SimpleNamespace(outcome=outcome, in_time=True))
    reader = TokenReader(visitor)
    for piece in pieces:
        reader(time.perf_counter(), piece)
    reader.finish(Reply(200, 1.0, b"", body), QUICK)
    return outcome


def test_every_token_is_read_once_wherever_the_stream_is_cut():
    stream = b"".join(events(QUICK.tokens_per_run))
    for size in (1, 7, 61, 997, len(stream)):
        outcome = read([stream[at : at + size] for at in range(0, len(stream), size)])
        assert not outcome.faults
        assert len(outcome.notes[DELAY]) == QUICK.tokens_per_run
        assert len(outcome.notes[FIRST]) == ANSWERS
        assert len(outcome.notes[GAP]) == QUICK.tokens_per_run - ANSWERS
        assert len(outcome.notes[BETWEEN]) == TOOL_CALLS
        assert len(outcome.notes[START]) == len(outcome.notes[TO_FIRST]) == 1
        assert len(outcome.notes[RUN]) == 1
        assert 0 <= min(outcome.notes[DELAY]) <= max(outcome.notes[DELAY]) < 30


def test_the_first_token_of_a_run_counts_from_the_sending_of_its_request():
    outcome = Outcome()
    reader = TokenReader(cast(Visitor, SimpleNamespace(outcome=outcome, in_time=True)))
    time.sleep(0.06)  # The server is slow to ask the model.
    reader(time.perf_counter(), b"".join(events(3)))
    assert outcome.notes[FIRST][0] < 0.05 <= outcome.notes[TO_FIRST][0]


def test_lost_doubled_and_exchanged_tokens_and_bad_ends_are_faults():
    right = events(QUICK.tokens_per_run)
    assert read(right[:5] + right[6:]).faults == {"tokens not in order": 1}
    assert read(right[:5] + right[4:]).faults == {"tokens not in order": 1}
    assert read([*right[:5], right[6], right[5], *right[7:]]).faults == {"tokens not in order": 3}
    assert read(right[:-2]).faults == {"tokens missing": 1}
    assert read(right, body=b'{"status":"interrupted"}').faults == {"ended badly": 1}


def test_times_go_on_where_the_clock_of_the_tokens_begins_anew():
    assert since(10.0, 10.5) == pytest.approx(0.5)
    assert since(4294.9, 0.1) == pytest.approx(0.167296, abs=1e-5)
    assert since(0.1, 4294.9) == pytest.approx(-0.167296, abs=1e-5)
    (token,) = tokens_in(b'{"content":"%b"}' % token_text(3, clock()))
    assert token.number == 3
    assert token.asked is not None
    assert 0 <= since(token.sent, time.monotonic()) < 5


def level(agents: int = 40, **changes: Any) -> dict[str, Any]:
    times = {"p50": 1.0, "p95": 2.0, "p99": 3.0}
    found: dict[str, Any] = {
        "agents": agents,
        "tokens_per_second": 1700.0,
        "pace": 0.99,
        "faults": {},
        "milliseconds": dict.fromkeys((FIRST, GAP, DELAY, TO_FIRST, START, BETWEEN), times),
        "cores": {"server": 1.0, "postgres": 0.1, "model": 0.1, "client": 0.05},
        "other_cores": 0.0,
        "cpu_ms_per_1000_tokens": {
            "server": 600.0,
            "postgres": 60.0,
            "model": 60.0,
            "client": 30.0,
        },
        "rss_bytes_per_run": 100_000,
        "connections": 7,
    }
    return found | changes


def slow(name: str, p99: float) -> dict[str, Any]:
    return {**level()["milliseconds"], name: {"p50": 1.0, "p95": 2.0, "p99": p99}}


def test_a_level_is_carried_if_pace_floors_and_tokens_are_kept():
    assert carried(level())
    assert not carried(level(pace=0.9))
    assert saturated(level(pace=0.9))
    assert not carried(level(faults={"tokens missing": 1}))
    assert not carried(level(milliseconds=slow(FIRST, 20.1)))
    assert not carried(level(milliseconds=slow(TO_FIRST, 20.1)))
    assert not carried(level(milliseconds={FIRST: {"p99": 3.0}, GAP: {"p99": 3.0}}))
    assert not carried(level(milliseconds=slow(GAP, 10.1)))
    levels = [level(20), level(40), level(80, pace=0.5)]
    assert largest_carried(levels) == levels[1]
    assert largest_carried(levels[2:]) is None


def test_what_more_agents_would_take_and_what_is_told():
    assert extrapolated(level(40), 2000) == {
        "server": 50.0,
        "postgres": 5.0,
        "model": 5.0,
        "client": 2.5,
    }
    result = {
        "levels": [level(20), level(40)],
        "checkpoints_per_run": {"15": 3},
        "workload": {
            "processes": 2,
            "tokens_per_run": 880,
            "tokens_per_second_a_stream": 50.0,
            "run_seconds": 19.92,
        },
    }
    printed = "\n".join(lines(result))
    assert "within the floors: 40 agents" in printed
    assert "goal" in printed
    assert "added to the first token of a run, from its request" in printed
    assert any(line.startswith("| 40 |") for line in section(result))
    rows = [line for line in section(result) if line.startswith("|")]
    assert "| *20 / 10* | *20 / 10* | *10 / 5* |" in rows[2]
    assert len({line.count("|") for line in rows}) == 1
    assert "50 cores for headrace" in "\n".join(section(result))


def test_a_sample_belongs_to_the_innermost_package_that_is_named():
    outer = "run (asyncio/runners.py:118);_follow (headrace/worker/graph_runner.py:180)"
    assert part_of(outer) == "headrace: worker"
    assert part_of(f"{outer};publish (headrace/events/channel.py:200)") == "headrace: events"
    pydantic = f"{outer};_process (openai/_streaming.py:90);construct (pydantic/main.py:1)"
    assert part_of(pydantic) == "openai SDK"
    assert part_of("run (asyncio/runners.py:118);select (selectors.py:4)") == REST
    found = shares([f"{outer} 30", f"{pydantic} 60", "select (selectors.py:4) 10"])
    assert found == {"openai SDK": 0.6, "headrace: worker": 0.3, REST: 0.1}


def test_the_graph_waits_as_long_as_the_client_reckons():
    # The graph is not imported: its model wants a key.
    text = (ROOT / "loadtests" / "agents" / "graph.py").read_text()
    assert f"TOOL_SECONDS = {TOOL_SECONDS}" in text
