"""What an asynchronous standby may lack when it is promoted (docs/failover.md). Pure.

Nothing may be lost of what was acknowledged longer than a moment before the primary died.
"""

from tests.chaos.history import Asked, History

#: A standby on the same machine lags by milliseconds; a client may hear of a commit a little later.
MOMENT_SECONDS = 1.0


def may_be_lost(history: History, at: float | None) -> bool:
    """Whether what was acknowledged then may have been lost."""
    return (
        history.asynchronous
        and at is not None
        and any(abs(at - died) <= MOMENT_SECONDS for died in history.promoted_at)
    )


def met_a_promotion(history: History, asked: Asked) -> bool:
    """Whether its run was under way in such a moment: what it was told on the way may be lost."""
    if not history.asynchronous or asked.accepted_at is None:
        return False
    ended = asked.told_at[-1] if asked.told_at else float("inf")
    return any(
        asked.accepted_at - MOMENT_SECONDS <= died <= ended + MOMENT_SECONDS
        for died in history.promoted_at
    )
