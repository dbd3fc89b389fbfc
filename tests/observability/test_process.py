"""What a process says of itself, and what it does about its memory."""

import gc
import weakref

from headrace.observability.process import LargeGarbage


def test_large_garbage_is_collected_once_the_process_has_grown():
    """A few large values are too few objects for a collection of Python's own."""

    class Cycle:
        def __init__(self, size: int) -> None:
            self.me, self.value = self, bytes([1]) * size

    def leave(size: int) -> "weakref.ref[Cycle]":
        return weakref.ref(Cycle(size))

    gc.collect()
    garbage = LargeGarbage()
    gc.disable()
    try:
        small = leave(1024)
        garbage.look()
        assert small() is not None
        large = leave(100 * 1024 * 1024)
        garbage.look()
        assert (small(), large()) == (None, None)
    finally:
        gc.enable()
