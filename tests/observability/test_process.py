"""What a process says of itself, and what it does about its memory."""

import subprocess
import sys

#: In a process of its own: in the one of the tests, other threads give memory back meanwhile.
_CYCLES = """
import gc, weakref
from headrace.observability.process import LargeGarbage

class Cycle:
    def __init__(self, size):
        self.me, self.value = self, bytes([1]) * size

def leave(size):
    return weakref.ref(Cycle(size))

gc.disable()
garbage = LargeGarbage()
small = leave(1024)
garbage.look()
print("small", small() is not None)
large = leave(100 * 1024 * 1024)
garbage.look()
print("large", small() is not None, large() is not None)
"""


def test_large_garbage_is_collected_once_the_process_has_grown():
    """A few large values are too few objects for a collection of Python's own."""
    told = subprocess.run(
        [sys.executable, "-c", _CYCLES], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.splitlines() == ["small True", "large False False"]
