"""What ``headrace serve`` looks at before it becomes a server."""

import json
import socket

import pytest
from pydantic import ValidationError

from headrace.cli.serve import refuse_missing_graphs, refuse_open_access, refuse_taken_address
from headrace.errors import StartupRefusal
from headrace.settings import Settings, unknown_variables

KEY = "a-key-of-this-test"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_address_needs_no_key(host):
    refuse_open_access(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.1.2.3", "no such host"])
def test_any_other_address_is_refused_until_somebody_asks_for_a_key(host):
    with pytest.raises(StartupRefusal, match="HEADRACE_API_KEYS") as caught:
        refuse_open_access(Settings(host=host))
    assert caught.value.code == "HR205"
    refuse_open_access(Settings(host=host, auth="none"))
    refuse_open_access(Settings(host=host, api_keys=KEY))


def test_a_variable_that_no_setting_reads_is_found(monkeypatch):
    monkeypatch.setenv("HEADRACE_DATABASE__POOL_MAXIMUM", "3")
    monkeypatch.setenv("HEADRACE_API_KEYS", KEY)
    assert unknown_variables() == ["HEADRACE_DATABASE__POOL_MAXIMUM"]


def test_the_earlier_name_of_a_setting_still_works(monkeypatch):
    monkeypatch.setenv("HEADRACE_SERVER__HEARTBEAT_SECONDS", "1.5")
    assert Settings().server.ping_seconds == Settings().server.heartbeat_seconds == 1.5
    assert unknown_variables() == []
    monkeypatch.setenv("HEADRACE_SERVER__PING_SECONDS", "1.50")
    assert Settings().server.ping_seconds == 1.5
    monkeypatch.setenv("HEADRACE_SERVER__PING_SECONDS", "2")
    with pytest.raises(ValidationError, match="differ; unset HEADRACE_SERVER__HEARTBEAT_SECONDS"):
        Settings()
    monkeypatch.delenv("HEADRACE_SERVER__PING_SECONDS")
    for wrong in ("0", "often", ""):
        monkeypatch.setenv("HEADRACE_SERVER__HEARTBEAT_SECONDS", wrong)
        with pytest.raises(ValidationError, match=r"server\.heartbeat_seconds, the earlier name"):
            Settings()


def test_a_manifest_is_looked_at_and_what_it_does_not_do_is_said(tmp_path, capsys):
    config = tmp_path / "langgraph.json"
    graphs, http = {"agent": "./graph.py:graph"}, {"app": "./web.py:app"}
    config.write_text(json.dumps({"graphs": graphs, "http": http, "priority": {}}))
    (tmp_path / "graph.py").touch()
    with pytest.raises(StartupRefusal, match=r"HR101 http\.app .*there is no file \./web\.py"):
        refuse_missing_graphs(Settings(config=config))
    (tmp_path / "web.py").touch()
    refuse_missing_graphs(Settings(config=config))
    why = "headrace takes runs in the order they came in"
    said = f"warning: langgraph.json: priority is ignored: {why}\n"
    assert capsys.readouterr().err == said


def test_a_taken_port_of_health_and_metrics_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        metrics = {"port": taken.getsockname()[1]}
        with pytest.raises(StartupRefusal, match="HEADRACE_METRICS__PORT") as caught:
            refuse_taken_address(Settings(port=port, metrics=metrics))
        assert caught.value.code == "HR201"


def test_one_port_is_not_two():
    with pytest.raises(ValueError, match=r"port and metrics\.port are both 8123"):
        Settings(port=8123, metrics={"port": 8123})
