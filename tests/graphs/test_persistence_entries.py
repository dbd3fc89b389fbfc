"""``store.ttl`` of a manifest."""

import json

import pytest

from headrace.errors import StartupRefusal
from headrace.graphs.manifest import read_manifest
from headrace.graphs.persistence_entries import StoreEntry


@pytest.fixture
def entry(tmp_path):
    def read(store):
        path = tmp_path / "langgraph.json"
        path.write_text(json.dumps({"graphs": {"a": "a.py:b"}, "store": store}))
        return read_manifest(path).store

    return read


def test_what_is_said_is_what_the_store_gets(entry):
    ttl = {"default_ttl": 90, "refresh_on_read": False, "sweep_interval_minutes": 0.5, "later": 1}
    read = entry({"ttl": ttl, "index": {"dims": 3, "embed": "openai:x"}}).ttl
    assert read.sweep_interval_minutes == 0.5
    assert read.as_config() == {
        "default_ttl": 90,
        "refresh_on_read": False,
        "omit_expired": True,
    }


@pytest.mark.parametrize("store", [{}, {"ttl": None}, {"ttl": {"sweep_interval_minutes": None}}])
def test_nothing_said_is_sweeping_and_no_default(entry, store):
    assert entry(None) is None
    assert entry(store) == StoreEntry()
    assert StoreEntry().ttl.sweep_interval_minutes == 5
    assert StoreEntry().ttl.as_config()["default_ttl"] is None


@pytest.mark.parametrize(
    ("ttl", "said"),
    [
        ({"default_ttl": 0}, "store.ttl.default_ttl: input should be greater than 0"),
        ({"sweep_interval_minutes": "often"}, "store.ttl.sweep_interval_minutes"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(entry, ttl, said):
    with pytest.raises(StartupRefusal, match=f"HR104.*{said}"):
        entry({"ttl": ttl})
