"""What is too large takes no memory beyond the value itself."""

import gc
import tracemalloc
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from headrace.checkpoints.allowed_types import AllowedTypes
from headrace.checkpoints.rows import checkpoint_rows, task_rows
from headrace.checkpoints.serializer import ExactSerializer
from headrace.checkpoints.write_size import WriteSize
from headrace.errors import CheckpointTooLarge

MOST = 1 << 20
CONFIG: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "c"}}


class Text:
    """Nobody sees how large it is until it is serialized."""

    def __init__(self, size: int) -> None:
        self.size = size


class Counting(ExactSerializer):
    def __init__(self) -> None:
        super().__init__(AllowedTypes(), AllowedTypes())
        self.packed = 0

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        self.packed += 1
        if isinstance(obj, Text):
            return "bytes", bytes(obj.size)
        return super().dumps_typed(obj)


@pytest.mark.parametrize(
    "value", ["x" * 3 * MOST, b"x" * 3 * MOST, ["x" * MOST] * 3, {"a": ["b"], "c": "x" * 3 * MOST}]
)
def test_what_is_plainly_too_large_is_not_serialized(value):
    serde = Counting()
    with pytest.raises(CheckpointTooLarge, match="'out'"):
        task_rows(serde, None, CONFIG, [("out", value)], "task", "", WriteSize(MOST))
    checkpoint: Any = {**empty_checkpoint(), "channel_values": {"out": [value]}}
    with pytest.raises(CheckpointTooLarge, match="'out'"):
        checkpoint_rows(serde, None, CONFIG, checkpoint, {}, {"out": "1"}, WriteSize(2 * MOST))
    assert serde.packed <= 1


def test_the_error_does_not_keep_what_was_serialized():
    """It lives as long as its run."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointTooLarge) as caught:
            task_rows(
                Counting(), None, CONFIG, [("out", Text(8 * MOST))], "task", "", WriteSize(MOST)
            )
        gc.collect()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value is not None
    assert most > 8 * MOST
    assert kept < MOST


def test_what_is_missing_is_told_before_what_cannot_be_stored():
    config: Any = {"configurable": {"thread_id": "half \ud800"}}
    checkpoint: Any = {"id": "1", "channel_values": {}, "channel_versions": {}}
    with pytest.raises(KeyError, match="checkpoint_ns"):
        checkpoint_rows(Counting(), None, config, checkpoint, {}, {})
