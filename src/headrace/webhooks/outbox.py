"""What a run with a webhook has left, noted before its end; and the signal that something is due.

A trigger makes the delivery due in the transaction that ends the run. So a run without a webhook
costs nothing here.
"""

from headrace.checkpoints.fence import RunToken
from headrace.lifecycle import Signal
from headrace.webhooks.repository import DeliveryRepository


class Outbox:
    """One per process.

    :param max_payload_bytes: the bytes of a message; larger values are not noted.
    """

    def __init__(self, repository: DeliveryRepository, *, max_payload_bytes: int) -> None:
        self._repository = repository
        self.max_payload_bytes = max_payload_bytes
        #: Set when a run of this process with a webhook has ended.
        self.due = Signal()

    async def stage(self, token: RunToken, result: bytes) -> None:
        """Note what a run has left that is about to end.

        :param result: of :func:`headrace.webhooks.payloads.result_json`.
        :raises Unavailable: the database could not be reached.
        """
        await self._repository.stage(token, result)

    def wake(self) -> None:
        """A run with a webhook has ended here: send at once."""
        self.due.set()
