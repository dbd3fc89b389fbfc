"""The steps: the SDK's methods with odd arguments, in chapters that stand alone.

A chapter makes what it needs, under names of its own: others are played at the same time, but for
those in ``ALONE`` and ``FIRST``. Its steps are played in order on both servers, so a later one may
name what an earlier one made.
"""

from collections.abc import Callable

from tests.clients.side_by_side.chapters import crons, firing, protocol, rooms, runs, threads
from tests.clients.side_by_side.play import Step

CHAPTERS: dict[str, Callable[[], list[Step]]] = {
    chapter.__name__: chapter
    for chapter in (
        threads.threads_are_made,
        threads.threads_are_named_oddly,
        threads.threads_are_searched,
        threads.threads_are_kept,
        threads.threads_are_followed,
        threads.states_are_changed,
        threads.states_are_read,
        runs.runs_are_awaited_oddly,
        runs.runs_make_threads,
        runs.runs_without_a_thread,
        runs.runs_are_streamed,
        runs.runs_are_made,
        runs.runs_are_managed,
        runs.runs_meet_on_a_thread,
        runs.runs_are_cancelled,
        runs.a_person_is_asked,
        rooms.assistants_are_kept,
        rooms.assistants_are_changed,
        rooms.items_are_stored,
        rooms.jobs_are_scheduled,
        crons.crons_are_made,
        crons.crons_are_changed,
        crons.crons_are_searched,
        crons.crons_go_with_their_thread,
        firing.crons_fire,
        rooms.other_protocols_are_spoken,
        protocol.commands_are_sent,
        protocol.questions_are_answered,
        protocol.subscriptions_are_refused,
        rooms.routes_are_asked_oddly,
    )
}

#: The official server makes no runs of crons as long as one of them has an ``end_time``, and other
#: chapters leave such crons behind.
FIRST = frozenset({firing.crons_fire.__name__})

#: Others' runs are not safe from them.
ALONE = frozenset({runs.runs_are_managed.__name__})
