"""Graphs that do what an asynchronous node must not: they block the event loop."""

import time
from pathlib import Path
from typing import TypedDict

from tests.support.graphs.graphs import make_slow, one_node

__all__ = ["block", "make_slow"]


class Nap(TypedDict, total=False):
    seconds: float
    #: A file: who finds it does not sleep, so that the run goes on well when it is taken over.
    slept: str


def sleep_once(seconds: float, slept: Path) -> None:
    if not slept.exists():
        slept.touch()
        time.sleep(seconds)


async def nap(state: Nap) -> Nap:
    sleep_once(state["seconds"], Path(state["slept"]))
    return {}


block = one_node(Nap, "nap", nap)
