"""Opens webhooks: what settings and ``langgraph.json`` allow together, and who sends."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from headrace.db.pool import SharedPool
from headrace.errors import StartupRefusal
from headrace.graphs.http_entry import HttpEntry
from headrace.graphs.webhooks_entry import WebhooksEntry
from headrace.lifecycle import Tasks
from headrace.observability.metrics import Metrics
from headrace.settings import Settings, environment
from headrace.shares import Share
from headrace.webhook_settings import WebhookSettings
from headrace.webhooks.addresses import loopback_networks
from headrace.webhooks.calls import Sender
from headrace.webhooks.dispatcher import Dispatcher
from headrace.webhooks.outbox import Outbox
from headrace.webhooks.policy import OutboundPolicy
from headrace.webhooks.repository import DeliveryRepository
from headrace.webhooks.retention import DeliverySweeper

_SWEEP_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Webhooks:
    """:ivar policy: which webhooks runs may name; None: webhooks are switched off."""

    outbox: Outbox
    policy: OutboundPolicy | None


def policy_of(settings: WebhookSettings, entry: WebhooksEntry) -> OutboundPolicy:
    """The policy of ``langgraph.json``, with the settings that are set in its place."""
    url, defaults = entry.url, OutboundPolicy()
    wanted = (settings.require_https, url.require_https)
    loopback = () if url.disable_loopback else loopback_networks()
    return OutboundPolicy(
        require_https=next((one for one in wanted if one is not None), defaults.require_https),
        domains=url.allowed_domains if settings.domains is None else settings.domains,
        ports=frozenset(url.allowed_ports) if settings.ports is None else settings.ports,
        networks=(*loopback, *settings.networks),
        max_url_length=settings.max_url_length or url.max_url_length or defaults.max_url_length,
    )


async def open_webhooks(
    settings: Settings,
    http: HttpEntry,
    entry: WebhooksEntry,
    pool: SharedPool,
    metrics: Metrics,
    share: Share,
    tasks: Tasks,
    stack: AsyncExitStack,
) -> Webhooks:
    """Start to send, unless ``http.disable_webhooks`` is set.

    :raises StartupRefusal: HR114 a header or the file of authorities cannot be read.
    """
    own = settings.webhooks
    repository = DeliveryRepository(pool)
    outbox = Outbox(repository, max_payload_bytes=own.max_payload_bytes)
    DeliverySweeper(
        repository, keep_seconds=own.keep_days * 86_400, interval_seconds=_SWEEP_SECONDS
    ).start(tasks)
    if http.disable_webhooks:
        return Webhooks(outbox, None)
    policy = policy_of(own, entry)
    dispatcher = Dispatcher(
        repository,
        _sender(policy, own, entry, share),
        outbox,
        own,
        metrics.webhooks,
        share=share,
        stop_seconds=settings.server.shutdown_margin_seconds / 2,
    )
    dispatcher.start(tasks)
    stack.push_async_callback(dispatcher.stop)
    return Webhooks(outbox, policy)


def _sender(
    policy: OutboundPolicy, settings: WebhookSettings, entry: WebhooksEntry, share: Share
) -> Sender:
    try:
        headers = entry.resolved_headers(environment())
    except ValueError as error:
        raise StartupRefusal(
            "HR114",
            where="manifest langgraph.json",
            what=str(error),
            remedy="Set the variable, or take the header out.",
        ) from None
    try:
        return Sender(policy, settings, headers, share=share)
    except OSError as error:
        # The errors of TLS are errors of the system too.
        raise StartupRefusal(
            "HR114",
            where="HEADRACE_WEBHOOKS__CA_FILE",
            what=f"{settings.ca_file} is no PEM file of certificates ({error.strerror or error})",
            remedy="Name a readable PEM file, or unset it.",
        ) from None
