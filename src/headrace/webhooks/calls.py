"""One call to a receiver: the request, and what its answer means for the delivery."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from time import time

import httpcore2

from headrace.lifecycle import run_in_thread
from headrace.shares import Share, current_caller
from headrace.webhook_settings import WebhookSettings
from headrace.webhooks.connections import CheckedBackend, Lookup, system_lookup, tls_context
from headrace.webhooks.payloads import payload
from headrace.webhooks.policy import OutboundPolicy, Receiver, UrlRefused
from headrace.webhooks.repository import Delivery
from headrace.webhooks.signatures import signature_headers

#: Bytes that are read of an answer. They are not looked at: a receiver that sees its answer read
#: knows that the call was complete.
_READ_BYTES = 4096
#: The longest pause that a receiver may ask for.
_MAX_RETRY_AFTER = 3600.0
#: Larger bodies are put together in a thread.
_LARGE_BYTES = 256 * 1024
#: Statuses after which no further call is made: the receiver says that it is gone for ever.
_GONE = 410


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """:ivar problem: why the call has failed, in a few words without secrets; None: it succeeded.

    :ivar final: a further call would fail too.
    :ivar pause_seconds: how long the receiver wants to be left alone.
    :ivar answered: the receiver has answered in time, whatever it said.
    """

    problem: str | None = None
    final: bool = False
    pause_seconds: float = 0.0
    answered: bool = False


class Sender:
    """Makes calls; one per process.

    :param headers: of ``langgraph.json``, for each call.
    :param share: as :class:`CheckedBackend`.
    :param lookup: as ``socket.getaddrinfo``.
    """

    def __init__(
        self,
        policy: OutboundPolicy,
        settings: WebhookSettings,
        headers: Mapping[str, str],
        *,
        share: Share | float = 1.0,
        lookup: Lookup = system_lookup,
    ) -> None:
        self._policy = policy
        self._settings = settings
        self._secrets: Sequence[bytes] = settings.secrets
        self._headers = dict(headers)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls_context(settings.ca_file),
            max_connections=None,
            # Each call resolves and checks the host anew.
            max_keepalive_connections=0,
            network_backend=CheckedBackend(policy, share=share, lookup=lookup),
        )
        self._agent = f"headrace/{version('headrace')}"

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def call(self, delivery: Delivery) -> CallOutcome:
        """Send the delivery. Failures are outcomes: this raises none of them."""
        # The task belongs to this call.
        current_caller.set(delivery.caller)
        try:
            # The policy may be stricter than it was when the run was made.
            receiver = self._policy.receiver(delivery.url)
            body = await self._body(delivery)
            async with asyncio.timeout(self._settings.timeout_seconds):
                return await self._post(receiver, delivery.message_id, body)
        except UrlRefused as refusal:
            return CallOutcome(f"refused: {refusal}", final=True)
        except TimeoutError:
            seconds = self._settings.timeout_seconds
            return CallOutcome(f"no whole answer within {seconds:g} s")
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
        ) as error:
            return CallOutcome(_told(error))

    async def _body(self, delivery: Delivery) -> bytes:
        async def made() -> bytes:
            return payload(
                delivery.run,
                delivery.result,
                max_bytes=self._settings.max_payload_bytes,
                now=datetime.now(UTC),
            )

        if len(delivery.run) + len(delivery.result or b"") > _LARGE_BYTES:
            return await run_in_thread(made)
        return await made()

    async def _post(self, receiver: Receiver, message_id: str, body: bytes) -> CallOutcome:
        headers = {
            "host": receiver.authority,
            "user-agent": self._agent,
            **self._headers,
            "content-type": "application/json",
            "content-length": str(len(body)),
            **signature_headers(self._secrets, message_id, int(time()), body),
        }
        url = httpcore2.URL(
            scheme=receiver.scheme.encode(),
            host=receiver.host.encode(),
            port=receiver.port,
            target=receiver.target.encode(),
        )
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with self._pool.stream("POST", url, headers=sent, content=body) as answer:
            read = 0
            async for part in answer.aiter_stream():
                read += len(part)
                if read >= _READ_BYTES:
                    break
            return _meaning(answer)


def _meaning(answer: httpcore2.Response) -> CallOutcome:
    status = answer.status
    if 200 <= status < 300:
        return CallOutcome(answered=True)
    if 300 <= status < 400:
        return CallOutcome(f"answered {status}; redirects are not followed", answered=True)
    return CallOutcome(
        f"answered {status}",
        final=status == _GONE,
        pause_seconds=_retry_after(answer),
        answered=True,
    )


def _retry_after(answer: httpcore2.Response) -> float:
    """The pause that the receiver asks for: seconds or a date, at most the longest one."""
    for name, value in answer.headers:
        if name.lower() == b"retry-after":
            return max(0.0, min(_seconds(value.decode("latin-1")), _MAX_RETRY_AFTER))
    return 0.0


def _seconds(text: str) -> float:
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time()
    except (ValueError, OverflowError):
        return 0.0


def _told(error: Exception) -> str:
    """The error in a few words. Texts of TLS and of the system name no secrets."""
    if isinstance(error, httpcore2.LocalProtocolError):
        # Its text quotes the header that it refuses, which may be a secret.
        return type(error).__name__
    text = " ".join(str(error.__cause__ or error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
