"""How receivers share the calls of a process."""

from headrace.shares import Share
from headrace.webhooks.receivers import ReceiverPlaces

CALLER = "tenant a"


def taken(places: ReceiverPlaces, receiver: str, caller: str = CALLER) -> list:
    """All places that the receiver gets."""
    found = []
    while (place := places.take(caller, receiver)) is not None:
        found.append(place)
    return found


def answering(places: ReceiverPlaces, receiver: str, caller: str = CALLER) -> None:
    place = places.take(caller, receiver)
    assert place is not None
    places.release(place, answered=True)


def test_receivers_that_nobody_knows_leave_half_to_those_that_answer():
    places = ReceiverPlaces(32, share=0.25, most=8)
    answering(places, "good")
    # Any number of host names, as one attacker has them.
    held = [len(taken(places, f"{number}.hangs.test")) for number in range(50)]
    assert (held[0], sum(held)) == (4, 16)
    # Their messages are not even looked for.
    assert (places.bounds().bounded, places.bounds().known) == (None, [f"{CALLER}\ngood"])
    assert places.take(CALLER, "new") is None
    assert places.take(CALLER, "good") is not None


def test_one_that_answers_has_its_share_of_all_and_loses_it_when_it_hangs():
    places = ReceiverPlaces(32, share=0.25, most=6)
    answering(places, "good")
    held = taken(places, "good")
    assert len(held) == 6
    assert places.bounds().busy == [f"{CALLER}\ngood"]
    for place in held:
        places.release(place, answered=False)
    assert places.free == 32
    assert len(taken(places, "good")) == 4


def test_a_call_that_was_given_up_says_nothing_about_its_receiver():
    places = ReceiverPlaces(8, share=1.0, most=8)
    answering(places, "good")
    for place in taken(places, "good"):
        places.release(place, answered=None)
    assert len(taken(places, "good")) == 8


def test_the_receivers_that_are_remembered_are_bounded():
    places = ReceiverPlaces(2, share=1.0, most=2)
    for number in range(1500):
        answering(places, str(number))
    assert len(places._known) == 1000
    assert len(taken(places, "1499")) == 2


def test_a_process_that_makes_one_call_at_once_makes_it():
    places = ReceiverPlaces(1, share=0.25, most=8)
    (place,) = taken(places, "one")
    assert places.take(CALLER, "other") is None
    places.release(place, answered=False)
    assert places.take(CALLER, "other") is not None


def test_a_caller_with_any_number_of_receivers_leaves_calls_to_other_callers():
    """Each of them answers, though late: so all are known."""
    places = ReceiverPlaces(32, share=0.25, most=8, share_of_caller=Share(0.75))
    for number in range(100):
        answering(places, f"{number}.slow.test", "noisy")
    held = [taken(places, f"{number}.slow.test", "noisy") for number in range(100)]
    assert sum(map(len, held)) == 24
    # Its messages are not even looked for, however old they are.
    assert places.bounds().full == ["noisy"]
    assert places.take("quiet", "new") is not None


def test_a_caller_whose_receivers_hang_leaves_calls_to_new_receivers_of_others():
    places = ReceiverPlaces(32, share=0.25, most=8, share_of_caller=Share(0.75))
    answering(places, "good", "noisy")
    for number in range(100):
        taken(places, f"{number}.hangs.test", "noisy")
    bounds = places.bounds()
    assert (bounds.full, bounds.bounded) == ([], ["noisy"])
    assert bounds.known == ["noisy\ngood"]
    assert places.take("noisy", "new") is None
    assert places.take("noisy", "good") is not None
    assert places.take("quiet", "new") is not None


def test_a_caller_makes_no_receiver_of_another_one_unknown():
    places = ReceiverPlaces(32, share=0.25, most=8, share_of_caller=Share(0.75))
    answering(places, "shared", "quiet")
    for place in taken(places, "shared", "noisy"):
        places.release(place, answered=False)
    assert places.bounds().known == ()
    for number in range(100):
        taken(places, f"{number}.hangs.test", "noisy")
    assert places.bounds().known == ["quiet\nshared"]
