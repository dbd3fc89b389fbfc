"""Sends deliveries that are due, in every process: claims them, calls receivers, notes outcomes.

A claimed delivery has a lease: if its process dies, another one sends it again. So a receiver gets
each message at least once. No connection of the pool is held during a call.
"""

import asyncio
import random
from collections.abc import Sequence
from time import monotonic

import structlog

from headrace.lifecycle import Tasks
from headrace.observability.webhook_metrics import WebhookMetrics
from headrace.shares import Share
from headrace.unavailable_errors import Unavailable
from headrace.webhook_settings import WebhookSettings
from headrace.webhooks.calls import CallOutcome, Sender
from headrace.webhooks.outbox import Outbox
from headrace.webhooks.receivers import ReceiverPlace, ReceiverPlaces
from headrace.webhooks.repository import Delivery, DeliveryRepository

_log = structlog.stdlib.get_logger("headrace.webhooks")

#: A claim outlives its call by the time limit once more, and this: the outcome must still be noted.
_LEASE_MARGIN_SECONDS = 5.0
#: When a delivery is due again that was claimed beyond the share of its receiver.
_AGAIN_SECONDS = 0.5
_JITTER = 0.2


class Dispatcher:
    """One per process; any number may send at once.

    :param share: the part of its own and the free calls that one caller may have.
    :param stop_seconds: how long calls in flight may go on when the process ends.
    """

    def __init__(
        self,
        repository: DeliveryRepository,
        sender: Sender,
        outbox: Outbox,
        settings: WebhookSettings,
        metrics: WebhookMetrics,
        *,
        share: Share,
        stop_seconds: float,
    ) -> None:
        self._repository = repository
        self._sender = sender
        self._due = outbox.due
        self._settings = settings
        self._metrics = metrics
        self._stop_seconds = stop_seconds
        self._calls = Tasks()
        self._places = ReceiverPlaces(
            settings.max_in_flight,
            share=settings.receiver_share,
            most=settings.max_in_flight_per_receiver,
            share_of_caller=share,
        )
        #: Deliveries in flight.
        self._in_flight: dict[str, Delivery] = {}
        #: The last claim may have left deliveries that are due.
        self._more = False
        self._stopping = False

    def start(self, tasks: Tasks) -> None:
        tasks.keep(self._work, name="webhooks", vital=False)

    async def stop(self) -> None:
        """Claim nothing more, let calls in flight end, and give the others back."""
        self._stopping = True
        self._due.set()
        try:
            async with asyncio.timeout(self._stop_seconds):
                await self._calls.join()
        except TimeoutError:
            await self._calls.stop()
        if left := list(self._in_flight.values()):
            await self._give_back(left)
        await self._sender.close()

    async def _work(self) -> None:
        while not self._stopping:
            self._due.clear()
            try:
                await self._round()
            except Unavailable as fault:
                _log.warning("webhooks_not_claimed", cause=fault.code)
            jittered = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
            await self._due.wait(self._settings.poll_seconds * jittered)
        # ``tasks`` cancels this: a loop that ends by itself is reported as a fault.
        await asyncio.Event().wait()

    async def _round(self) -> None:
        """Claim as many deliveries as there is room for, and begin to send them."""
        if not (room := self._places.free):
            return
        limit = min(room, self._settings.max_in_flight_per_receiver)
        claimed = await self._repository.claim(
            limit=limit,
            bounds=self._places.bounds(),
            lease_seconds=2 * self._settings.timeout_seconds + _LEASE_MARGIN_SECONDS,
        )
        self._more = len(claimed) == limit
        too_many = [one for one in claimed if not self._begin(one)]
        if too_many:
            await self._give_back(too_many, seconds=_AGAIN_SECONDS)
        if self._more and len(too_many) < len(claimed):
            self._due.set()

    def _begin(self, delivery: Delivery) -> bool:
        """Begin to send, unless the receiver has enough calls."""
        if (
            self._stopping
            or (place := self._places.take(delivery.caller, delivery.receiver)) is None
        ):
            return False
        self._in_flight[delivery.message_id] = delivery
        self._calls.start(self._send(delivery, place), name=f"webhook-{delivery.run_id}")
        return True

    async def _send(self, delivery: Delivery, place: ReceiverPlace) -> None:
        began = monotonic()
        try:
            outcome = await self._sender.call(delivery)
        except Exception:
            # A fault of our own must not stop the others. The next call may meet it again.
            _log.exception("webhook_not_sent", run_id=str(delivery.run_id))
            outcome = CallOutcome("a fault of headrace; its log has it")
        except asyncio.CancelledError:
            # ``stop`` gives it back.
            self._places.release(place, answered=None)
            raise
        try:
            await self._settle(delivery, outcome, monotonic() - began)
        except Unavailable as fault:
            # It is due again after its lease.
            _log.warning("webhook_outcome_lost", run_id=str(delivery.run_id), cause=fault.code)
        finally:
            self._in_flight.pop(delivery.message_id, None)
            self._places.release(place, answered=outcome.answered)
            if self._more:
                self._due.set()

    async def _settle(self, delivery: Delivery, outcome: CallOutcome, seconds: float) -> None:
        told = {
            "run_id": str(delivery.run_id),
            "receiver": delivery.receiver,
            "tries": delivery.tries,
            "seconds": round(seconds, 3),
        }
        if outcome.problem is None:
            self._metrics.observe_call("sent", seconds)
            await self._repository.settle(delivery, "sent")
            self._metrics.observe_sent(delivery.age_seconds + seconds)
            _log.info("webhook_sent", **told)
        elif outcome.final or delivery.tries >= self._settings.max_attempts:
            self._metrics.observe_call("dead", seconds)
            await self._repository.settle(delivery, "dead", problem=outcome.problem)
            _log.error("webhook_dead", problem=outcome.problem, **told)
        else:
            pause = max(self._pause_seconds(delivery.tries), outcome.pause_seconds)
            self._metrics.observe_call("retried", seconds)
            await self._repository.settle(delivery, "due", problem=outcome.problem, seconds=pause)
            _log.warning(
                "webhook_failed",
                problem=outcome.problem,
                retry_in_seconds=round(pause, 1),
                **told,
            )

    def _pause_seconds(self, tries: int) -> float:
        """The pause after so many failed calls."""
        settings = self._settings
        pause = min(settings.max_retry_seconds, settings.retry_seconds * 2.0 ** min(tries - 1, 60))
        return pause * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret

    async def _give_back(self, deliveries: Sequence[Delivery], *, seconds: float = 0.0) -> None:
        try:
            await self._repository.release(deliveries, seconds=seconds)
        except Unavailable as fault:
            _log.warning("webhooks_not_released", count=len(deliveries), cause=fault.code)
