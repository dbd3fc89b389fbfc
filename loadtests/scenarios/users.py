"""Who comes in which profile."""

from typing import Any

from loadtests.common.api import Journey, JourneyUser
from loadtests.common.profile import Profile
from loadtests.scenarios.agent import agent
from loadtests.scenarios.background import background
from loadtests.scenarios.chat import ChatUser
from loadtests.scenarios.mixed import JOURNEYS
from loadtests.scenarios.overload import overload
from loadtests.scenarios.resume import resume
from loadtests.scenarios.stream import rejoin, stream

_JOURNEYS: dict[str, list[tuple[Journey, int]]] = {
    "agent": [(agent, 1)],
    "stream": [(stream, 2), (rejoin, 1)],
    "background": [(background, 1)],
    "resume": [(resume, 1)],
    "mixed": JOURNEYS,
    "soak": JOURNEYS,
    "overload": [(overload, 1)],
}


def user_of(given: Profile) -> Any:
    """The class of the users of a profile."""
    if given.name not in _JOURNEYS:
        return ChatUser

    class LoadUser(JourneyUser):
        profile = given
        journeys = _JOURNEYS[given.name]

    return LoadUser
