"""What an asynchronous standby may lack when it is promoted (docs/failover.md). Pure.

Nothing may be lost of what was acknowledged before the standby fell behind.
"""

from tests.chaos.history import Asked, History

#: A client may hear a little later of what was committed.
_HEARD_WITHIN_SECONDS = 1.0


def may_be_lost(history: History, at: float | None) -> bool:
    """Whether what was acknowledged then may have been lost."""
    return (
        history.asynchronous
        and at is not None
        and any(parted <= at <= died + _HEARD_WITHIN_SECONDS for parted, died in history.promotions)
    )


def met_a_promotion(history: History, asked: Asked) -> bool:
    """Whether it waited for something at one: what it was told on the way may be lost."""
    if not history.asynchronous:
        return False
    ended = asked.told_at[-1] if asked.told_at else float("inf")
    return any(
        asked.asked_at <= died + _HEARD_WITHIN_SECONDS and parted <= ended
        for parted, died in history.promotions
    )
