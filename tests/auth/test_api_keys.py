"""Keys: who is let in, what settings make of them, and that they are told to nobody."""

import pytest
from pydantic import ValidationError

from headrace.auth.api_keys import ApiKeys
from headrace.errors import Unauthenticated
from headrace.settings import Settings

KEY, OTHER = "k" * 24, "o" * 24


def test_without_keys_everyone_is_let_in():
    assert ApiKeys([]).check(None) == ""
    assert ApiKeys([]).check("anything") == ""


def test_each_of_several_keys_opens():
    keys = ApiKeys([KEY, OTHER])
    keys.check(KEY)
    keys.check(OTHER)


def test_each_key_names_one_caller_without_telling_the_key():
    keys = ApiKeys([KEY, OTHER, KEY])
    names = [keys.check(KEY), keys.check(OTHER), keys.check(KEY)]
    assert names[0] == names[2] != names[1]
    assert all(len(name) == 16 for name in names)
    assert not any(name in key for name in names for key in (KEY, OTHER))


@pytest.mark.parametrize(
    ("keys", "several"),
    [("", False), (KEY, False), (f"{KEY},{KEY}", False), (f"{KEY},{OTHER}", True)],
)
def test_with_one_key_or_none_settings_know_one_caller(monkeypatch, keys, several):
    monkeypatch.setenv("HEADRACE_API_KEYS", keys)
    assert Settings().several_callers == several


@pytest.mark.parametrize("presented", [None, "", KEY[:-1], KEY + "k", KEY.upper(), "ü\udcff"])
def test_nothing_else_opens(presented):
    with pytest.raises(Unauthenticated, match="x-api-key"):
        ApiKeys([KEY]).check(presented)


def test_keys_come_separated_by_commas(monkeypatch):
    monkeypatch.setenv("HEADRACE_API_KEYS", f" {KEY}, {OTHER},")
    assert Settings().accepted_api_keys == (KEY, OTHER)
    assert KEY not in repr(Settings())


def test_no_key_is_no_key(monkeypatch):
    assert Settings().accepted_api_keys == ()
    monkeypatch.setenv("HEADRACE_API_KEYS", "")
    assert Settings().accepted_api_keys == ()


@pytest.mark.parametrize("key", ["short", "with a space in the middle", "kürzel-und-mehr-zeichen"])
def test_a_key_that_keeps_nobody_out_is_refused_and_not_repeated(monkeypatch, key):
    monkeypatch.setenv("HEADRACE_API_KEYS", f"{KEY},{key}")
    with pytest.raises(ValidationError, match="16 characters or more") as caught:
        Settings()
    said = caught.value.errors(include_input=False, include_url=False)
    assert key not in str(said)


def test_keys_and_no_authentication_contradict_each_other(monkeypatch):
    monkeypatch.setenv("HEADRACE_API_KEYS", KEY)
    monkeypatch.setenv("HEADRACE_AUTH", "none")
    with pytest.raises(ValidationError, match="unset one of them"):
        Settings()
