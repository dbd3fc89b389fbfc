"""What ``headrace serve`` looks at before it becomes a server."""

import pytest

from headrace.cli.serve import refuse_open_door
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
