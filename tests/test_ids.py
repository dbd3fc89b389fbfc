"""Identifiers: in the order in which they were made, and one spelling of each."""

import subprocess
import sys
import threading
import time
from itertools import pairwise
from uuid import UUID

from headrace import ids
from headrace.ids import canonical_uuid, earliest_uuid7, uuid7

COUNT = 10_000

#: A process of its own: pytest's has threads, which forks do not bear.
MAKE_IDS_IN_FORKS = """
import os
from headrace.ids import uuid7
uuid7()
for _ in range(3):
    if os.fork() == 0:
        os.write(1, "".join(f"{uuid7().hex}\\n" for _ in range(100)).encode())
        os._exit(0)
for _ in range(3):
    os.wait()
"""


def is_increasing(ids):
    return all(before < after for before, after in pairwise(ids))


def test_ids_rise_strictly_within_one_millisecond_too():
    ids = [uuid7() for _ in range(COUNT)]
    assert is_increasing(ids)
    milliseconds = {made.int >> 80 for made in ids}
    assert len(milliseconds) < COUNT / 10, "many of them share a millisecond"


def test_ids_rise_strictly_in_each_of_several_threads():
    made: list[list[UUID]] = []
    start = threading.Barrier(4)

    def make():
        start.wait()
        made.append([uuid7() for _ in range(COUNT)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(ids) for ids in made] == [COUNT] * 4
    assert all(map(is_increasing, made))
    assert len({one for ids in made for one in ids}) == 4 * COUNT


def test_forked_processes_make_different_ids():
    answer = subprocess.run(
        [sys.executable, "-c", MAKE_IDS_IN_FORKS], capture_output=True, text=True, check=True
    )
    ids = answer.stdout.split()
    assert len(ids) == 300
    # Without the milliseconds, which may differ.
    assert len({made[12:] for made in ids}) == 300


def test_an_id_is_a_version_7_uuid_that_tells_its_time():
    before = time.time()
    made = uuid7()
    assert type(made) is UUID
    assert (made.version, made.variant) == (7, UUID(int=0x8 << 60).variant)
    assert earliest_uuid7(before) <= made < earliest_uuid7(time.time() + 1)


def test_long_texts_are_no_ids_and_are_not_kept():
    kept = ids._canonical.cache_info().currsize
    assert canonical_uuid("6" * 100_000) is None
    assert ids._canonical.cache_info().currsize == kept
