"""Webhooks of a pod that is killed: what was committed is sent by the next one."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from headrace.cli.webhooks import app
from tests.support.hook_receiver import Authority, hook_receiver, make_authority
from tests.support.live import GRAPHS, live_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

HI = {"messages": [{"role": "user", "content": "hi"}]}


def manifest(folder: Path) -> Path:
    path = folder / "langgraph.json"
    graphs = {"agent": f"{GRAPHS.parent / 'graphs.py'}:agent"}
    url = {"disable_loopback": False}
    path.write_text(json.dumps({"graphs": graphs, "webhooks": {"url": url}}))
    return path


def environment(authority: Authority, *, timeout_seconds: float) -> dict[str, Any]:
    return {
        "HEADRACE_WEBHOOKS__CA_FILE": str(authority.ca_file),
        "HEADRACE_WEBHOOKS__TIMEOUT_SECONDS": str(timeout_seconds),
        "HEADRACE_WEBHOOKS__POLL_SECONDS": "0.2",
        # One call occupies the process: what is committed after it is not sent.
        "HEADRACE_WEBHOOKS__MAX_IN_FLIGHT": "1",
    }


def test_none_is_lost_when_all_processes_are_killed_between_commit_and_call(tmp_path, database_url):
    authority = make_authority(tmp_path / "authority")
    config = manifest(tmp_path)
    own = environment(authority, timeout_seconds=60)
    with hook_receiver(authority) as receiver:
        receiver.answering.clear()
        body = {"assistant_id": "agent", "input": HI, "webhook": receiver.url}
        with live_server(
            tmp_path / "first", database_url, config=config, processes=1, **own
        ) as server:
            made = [
                httpx.post(f"{server.url}/runs", json=body, timeout=30).json()["run_id"]
                for _ in range(5)
            ]
            receiver.wait(1)
            with psycopg.connect(database_url, autocommit=True) as database:
                count = "SELECT count(*) FROM webhook_deliveries WHERE state = 'due'"
                wait_until(lambda: database.execute(count).fetchone() == (5,))
            assert server.master is not None
            pids = server.serving()
            os.kill(server.master.pid, signal.SIGKILL)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            server.master.wait(10)
        assert len(receiver.received) == 1
        receiver.answering.set()
        with psycopg.connect(database_url, autocommit=True) as database:
            # The lease of the call that was cut, 125 s, is not waited for.
            database.execute("UPDATE webhook_deliveries SET due_at = now() WHERE tries > 0")
        with live_server(tmp_path / "second", database_url, config=config, processes=2, **own):
            wait_until(lambda: len({one.message_id for one in receiver.received}) == 5)
            wait_until(lambda: len(receiver.received) == 6)
        assert {one.json["run_id"] for one in receiver.received} == set(made)
        assert all(one.json["values"]["messages"] for one in receiver.received)


def test_an_operator_lists_dead_messages_and_sends_them_again(tmp_path, database_url):
    authority = make_authority(tmp_path / "authority")
    runner = CliRunner(env={"DATABASE_URL": database_url})

    def headrace(*arguments: str) -> Any:
        return runner.invoke(app, list(arguments))

    with (
        hook_receiver(authority) as receiver,
        live_server(
            tmp_path / "server",
            database_url,
            config=manifest(tmp_path),
            processes=1,
            HEADRACE_WEBHOOKS__MAX_ATTEMPTS="1",
            **environment(authority, timeout_seconds=5),
        ) as server,
    ):
        receiver.statuses = [500]
        body = {"assistant_id": "agent", "input": HI, "webhook": f"{receiver.url}?token=s3cret"}
        httpx.post(f"{server.url}/runs/wait", json=body, timeout=30)
        wait_until(lambda: json.loads(headrace("list", "--json").stdout))
        told = headrace("list", "--json").stdout
        (one,) = json.loads(told)
        assert (one["state"], one["tries"], one["problem"]) == ("dead", 1, "answered 500")
        assert one["receiver"] == f"localhost:{receiver.port}"
        assert "s3cret" not in told + server.log()
        assert "answered 500" in headrace("list").stdout
        assert headrace("resend", one["run_id"]).stdout == "1 due again\n"
        again = receiver.wait(2)
        assert again[0].message_id == again[1].message_id
        text = 'headrace_webhook_calls_total{outcome="sent"} 1.0'
        wait_until(lambda: text in server.get("/metrics").text)
        assert headrace("list").stdout == "there are none\n"
        assert one["run_id"] in headrace("list", "--state", "all").stdout
        refused = headrace("resend", one["run_id"])
        assert refused.exit_code == 1
        assert headrace("resend").exit_code == 2
        assert headrace("resend", "--all").stdout == "0 due again\n"
