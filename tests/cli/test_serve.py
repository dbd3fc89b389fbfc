"""What ``headrace serve`` looks at before it becomes a server."""

import json

import pytest

from headrace.cli.serve import refuse_missing_graphs, refuse_open_door
from headrace.errors import StartupRefusal
from headrace.settings import Settings, unknown_variables

KEY = "a-key-of-this-test"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_address_needs_no_key(host):
    refuse_open_door(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.1.2.3", "no such host"])
def test_any_other_address_is_refused_until_somebody_asks_for_a_key(host):
    with pytest.raises(StartupRefusal, match="HEADRACE_API_KEYS") as caught:
        refuse_open_door(Settings(host=host))
    assert caught.value.code == "HR205"
    refuse_open_door(Settings(host=host, auth="none"))
    refuse_open_door(Settings(host=host, api_keys=KEY))


def test_a_variable_that_no_setting_reads_is_found(monkeypatch):
    monkeypatch.setenv("HEADRACE_DATABASE__POOL_MAXIMUM", "3")
    monkeypatch.setenv("HEADRACE_API_KEYS", KEY)
    assert unknown_variables() == ["HEADRACE_DATABASE__POOL_MAXIMUM"]


def test_a_manifest_is_looked_at_and_what_it_does_not_do_is_said(tmp_path, capsys):
    config = tmp_path / "langgraph.json"
    graphs, http = {"agent": "./graph.py:graph"}, {"app": "./web.py:app"}
    config.write_text(json.dumps({"graphs": graphs, "http": http, "webhooks": {}}))
    (tmp_path / "graph.py").touch()
    with pytest.raises(StartupRefusal, match=r"HR101 http\.app .*there is no file \./web\.py"):
        refuse_missing_graphs(Settings(config=config))
    (tmp_path / "web.py").touch()
    refuse_missing_graphs(Settings(config=config))
    said = "warning: langgraph.json: webhooks is ignored: headrace sends no webhooks yet\n"
    assert capsys.readouterr().err == said
