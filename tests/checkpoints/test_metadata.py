"""What a checkpoint stores of its run's configuration."""

from typing import Any

from langgraph.checkpoint.base import get_serializable_checkpoint_metadata

from headrace.checkpoints.metadata import RunMetadata, stored_config

_OWN: Any = {"source": "loop", "step": 1, "parents": {}}


def expected(config: Any, own: Any) -> Any:
    return get_serializable_checkpoint_metadata(stored_config(config, ids_only=True), own)


def test_each_checkpoint_of_a_run_stores_what_its_configuration_gives_now():
    metadata = {"run_attempt": 1, "tag": "a", "token": "copied", "long": "x" * 2000, "odd": {}}
    place = {"thread_id": "t", "checkpoint_ns": "", "run_id": "r", "token": "secret"}
    configs: list[Any] = [
        {"metadata": metadata, "configurable": place},
        {"metadata": metadata, "configurable": {**place, "checkpoint_id": "1"}},
        {"metadata": metadata, "configurable": {**place, "checkpoint_id": "2"}},
        {"metadata": metadata, "configurable": {**place, "checkpoint_id": "2", "run_id": "s"}},
        {"metadata": {**metadata, "tag": "b"}, "configurable": place},
        {"configurable": {"thread_id": "t", "checkpoint_ns": ""}},
        {"metadata": metadata, "configurable": place},
    ]
    stored = RunMetadata()
    for number, config in enumerate(configs):
        own: Any = {**_OWN, "step": number}
        assert stored.of(config, own) == expected(config, own)
    assert "token" not in stored.of(configs[0], _OWN)


def test_the_metadata_of_the_checkpoint_itself_wins():
    config: Any = {
        "metadata": {"step": 9, "source": "mine", "writes": "w"},
        "configurable": {"thread_id": "t", "checkpoint_ns": "", "run_id": "r"},
    }
    for own in ({"step": 1}, _OWN, {"run_id": "other", "writes": {"n": 1}}):
        told: Any = own
        assert RunMetadata().of(config, told) == expected(config, told)
