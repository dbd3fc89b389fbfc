"""Which events a subscription wants, and what a client is told to change in one."""

import pytest

from headrace.errors import BadRequest
from headrace.protocol.subscription import subscription_of

CHILD = ("child:1", "tools:2")


def wants(channel: str, namespace: tuple[str, ...] = (), **given: object) -> bool:
    return subscription_of({"channels": ["values"], **given}).wants(channel, namespace)


def test_channels_are_chosen_by_name():
    assert wants("values")
    assert not wants("updates")
    assert wants("custom:a", channels=["custom"])
    assert wants("custom:a", channels=["custom:a"])
    assert not wants("custom:b", channels=["custom:a"])
    assert not wants("custom", channels=["custom:a"])


@pytest.mark.parametrize(
    ("namespaces", "depth", "wanted"),
    [
        (None, None, True),
        ([], None, True),
        ([[]], None, True),
        ([[]], 1, False),
        ([[]], 2, True),
        (None, 1, True),
        ([], 0, True),
        ([["child"]], 1, True),
        ([["child"]], 0, False),
        ([["child:1"]], None, True),
        ([["child:2"]], None, False),
        ([["other"], ["child", "tools"]], 0, True),
        ([["child", "tools", "more"]], None, False),
    ],
)
def test_namespaces_are_prefixes_and_depth_counts_below_them(namespaces, depth, wanted):
    assert wants("values", CHILD, namespaces=namespaces, depth=depth) is wanted


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "Send an object with channels"),
        ({}, "channels is required and must be a non-empty array."),
        ({"channels": []}, "channels is required and must be a non-empty array."),
        (
            {"channels": ["values", "bad"]},
            "channels contains unsupported entries: bad. Allowed: values, updates, messages, tools,"
            " custom, lifecycle, input, tasks, checkpoints, or any `custom:<name>`.",
        ),
        ({"channels": ["custom:"]}, "unsupported entries: custom:."),
        ({"channels": [["values"]]}, "unsupported entries: ['values']."),
        ({"channels": ["values"] * 101}, "channels: name at most 100."),
        ({"channels": ["values"], "namespaces": "child"}, "namespaces: send an array of at most"),
        ({"channels": ["values"], "namespaces": ["child"]}, "namespaces: a namespace is an array"),
        ({"channels": ["values"], "depth": -1}, "depth: send a whole number from 0 to 1000"),
        ({"channels": ["values"], "depth": True}, "depth: send a whole number"),
        ({"channels": ["values"], "since": "1"}, "since: send a whole number"),
        ({"channels": ["values"], "since": 2**53}, "since: send a whole number"),
    ],
)
def test_a_refusal_says_what_to_change(given, told):
    with pytest.raises(BadRequest) as refused:
        subscription_of(given)
    assert told in refused.value.message
