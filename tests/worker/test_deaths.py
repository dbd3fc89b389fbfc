"""The list of the dead, in memory that a master shares with the processes that it has forked."""

import os
import signal
import time

from headrace.ids import uuid7
from headrace.worker.deaths import Deaths


def place_of(deaths, *taken):
    place = deaths.free_place(taken)
    assert place is not None
    return place


def forked(act):
    """A child that does this, and then waits for its end."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        act()
        os.write(tell, b"!")
        signal.pause()
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    return pid


def test_the_id_that_a_child_has_noted_is_listed_when_the_master_reaps_it():
    deaths = Deaths()
    place, process_id = place_of(deaths), uuid7()
    pid = forked(lambda: place.note(process_id))
    before = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[0] == pid
    assert deaths.since(0) == {}
    place.end()
    assert list(deaths.since(0)) == [process_id]
    assert before <= deaths.since(0)[process_id] <= time.monotonic()


def test_a_child_that_was_forked_before_reads_of_a_later_death():
    deaths = Deaths()
    place, process_id = place_of(deaths), uuid7()
    place.note(process_id)

    def wait_for_it():
        while process_id not in deaths.since(0):
            time.sleep(0.01)

    go, let = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(go, 1)
        wait_for_it()
        os._exit(7)
    place.end()
    os.write(let, b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os.close(go)
    os.close(let)


def test_a_process_that_took_a_new_id_is_listed_under_both():
    deaths = Deaths()
    place, ids = place_of(deaths), [uuid7() for _ in range(3)]
    for one in ids:
        place.note(one)
    place.end()
    assert list(deaths.since(0)) == [ids[2], ids[1]]


def test_nothing_is_listed_of_a_process_that_never_registered_or_has_left():
    deaths = Deaths()
    place_of(deaths).end()
    left = place_of(deaths, 0)
    left.note(uuid7())
    left.leave()
    left.end()
    assert deaths.total == 0


def test_the_next_process_on_a_place_is_another_one():
    deaths = Deaths()
    first, second = uuid7(), uuid7()
    place_of(deaths).note(first)
    place_of(deaths).end()
    place_of(deaths).note(second)
    assert list(deaths.since(0)) == [first]
    place_of(deaths).end()
    place_of(deaths).end()
    assert list(deaths.since(0)) == [first, second]
    assert list(deaths.since(1)) == [second]


def test_places_are_free_once_and_there_is_an_end():
    deaths = Deaths()
    assert place_of(deaths, 0, 1, 3).index == 2
    assert deaths.free_place(range(1000)) is None
    # The first and the last place, and the list behind it, do not overlap.
    ids = [uuid7(), uuid7()]
    places = [place_of(deaths), place_of(deaths, *range(255))]
    for place, one in zip(places, ids, strict=True):
        place.note(one)
        place.note(one)
    for place in places:
        place.end()
    assert set(deaths.since(0)) == set(ids)


def test_the_list_keeps_the_last_deaths():
    deaths = Deaths()
    ids = [uuid7() for _ in range(1000)]
    for one in ids:
        deaths.add(one)
    assert deaths.total == 1000
    found = list(deaths.since(0))
    assert found == ids[-len(found) :]
    assert len(found) > 200
    assert list(deaths.since(998)) == ids[998:]
