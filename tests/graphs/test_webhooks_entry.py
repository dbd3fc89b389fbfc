"""``webhooks`` of ``langgraph.json``: what is read of it, and what stops the start."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import read_manifest
from headrace.graphs.webhooks_entry import WebhooksEntry
from headrace.server.webhooks import policy_of
from headrace.webhook_settings import WebhookSettings
from headrace.webhooks.addresses import loopback_networks
from headrace.webhooks.policy import OutboundPolicy

URL = {
    "require_https": False,
    "allowed_domains": ["hooks.example.com"],
    "allowed_ports": [8443],
    "max_url_length": 100,
    "disable_loopback": False,
}


def entry(**content) -> WebhooksEntry:
    return WebhooksEntry.model_validate(content)


def test_without_the_key_the_policy_is_the_strict_one():
    assert policy_of(WebhookSettings(), WebhooksEntry()) == OutboundPolicy()
    assert policy_of(WebhookSettings(), entry(url=None, headers=None)) == OutboundPolicy()


def test_each_key_is_honoured_and_a_setting_wins():
    assert policy_of(WebhookSettings(), entry(url=URL)) == OutboundPolicy(
        require_https=False,
        domains=("hooks.example.com",),
        ports=frozenset({8443}),
        networks=loopback_networks(),
        max_url_length=100,
    )
    settings = WebhookSettings(
        require_https=True,
        allowed_domains="a.example, *.b.example",
        allowed_ports="",
        max_url_length=200,
        allowed_networks="10.0.0.0/8",
    )
    policy = policy_of(settings, entry(url=URL))
    assert policy.require_https
    assert policy.domains == ("a.example", "*.b.example")
    assert policy.ports == frozenset()
    assert policy.max_url_length == 200
    assert str(policy.networks[-1]) == "10.0.0.0/8"


def test_headers_get_the_values_of_variables_with_the_prefix():
    headers = {"Authorization": "Bearer ${{ env.LG_WEBHOOK_A }}-${{env.LG_WEBHOOK_B}}", "X": "y"}
    resolved = entry(headers=headers).resolved_headers({"LG_WEBHOOK_A": "1", "LG_WEBHOOK_B": "2"})
    assert resolved == {"authorization": "Bearer 1-2", "x": "y"}
    other = entry(headers={"x": "${{ env.HOOK_A }}"}, env_prefix="HOOK_")
    assert other.resolved_headers({"HOOK_A": "1"}) == {"x": "1"}


def test_blanks_around_a_value_are_left_out_because_no_call_could_be_made_with_them():
    made = entry(headers={"x": "Bearer ${{ env.LG_WEBHOOK_A }}", "y": " z\t"})
    assert made.resolved_headers({"LG_WEBHOOK_A": "1 "}) == {"x": "Bearer 1", "y": "z"}


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(ValueError, match="LG_WEBHOOK_A"):
        entry(headers={"x": "${{ env.LG_WEBHOOK_A }}"}).resolved_headers({})
    with pytest.raises(ValueError, match="one line"):
        entry(headers={"x": "${{ env.LG_WEBHOOK_A }}"}).resolved_headers({"LG_WEBHOOK_A": "a\r\nb"})


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "${{ env.PATH }}"},
        {"x": "${{ env.DATABASE_URL }}"},
        {"x": "a\r\ny: b"},
        {"x y": "z"},
        {"": "z"},
        {"Host": "example.com"},
        {"Content-Length": "0"},
        {"Webhook-Signature": "v1,x"},
    ],
)
def test_headers_that_no_call_may_have_are_refused(headers):
    with pytest.raises(ValidationError, match="headers"):
        entry(headers=headers)


def test_a_manifest_says_what_it_does_not_know(tmp_path: Path):
    path = tmp_path / "langgraph.json"
    path.write_text(
        '{"graphs": {"a": "./a.py:a"}, "webhooks": {"url": {"allowed_hosts": []}, "secret": "x"}}'
    )
    (notice,) = read_manifest(path).notices
    assert "webhooks.secret, webhooks.url.allowed_hosts" in notice
    path.write_text('{"graphs": {"a": "./a.py:a"}, "webhooks": {"url": {"allowed_ports": [0]}}}')
    with pytest.raises(StartupRefusal, match=r"HR104.*webhooks\.url\.allowed_ports"):
        read_manifest(path)
