"""Numbers that rise from event to event of a thread, across its runs and in any process.

No counter is kept. A number is made from the time when the run has started first, and from the id
of the event in its run. Runs of a thread are executed one after the other, and no run has 1,024
events in a millisecond. So a later run has higher numbers, unless the clock of the database is set
back by more than the earlier run has lasted.
"""

_EVENTS_A_MILLISECOND = 1024


def number_before(begun_ms: int) -> int:
    """The number before the first event of a run.

    :param begun_ms: milliseconds from the creation of the thread to the first start of the run.
    """
    return begun_ms * _EVENTS_A_MILLISECOND
