"""Calls of real receivers: TLS, signatures, pinned addresses, redirects, limits."""

import asyncio
import base64
import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from headrace.thread_pool import use_thread_pool
from headrace.webhook_settings import WebhookSettings
from headrace.webhooks.addresses import loopback_networks
from headrace.webhooks.calls import Sender
from headrace.webhooks.payloads import result_json
from headrace.webhooks.policy import OutboundPolicy
from headrace.webhooks.repository import Delivery
from tests.support.hook_receiver import Authority, hook_receiver, make_authority
from tests.support.waiting import eventually

OLD, NEW = (f"whsec_{base64.b64encode(bytes([byte]) * 32).decode()}" for byte in (1, 2))
LOOPBACK = OutboundPolicy(networks=loopback_networks())
PLAIN = OutboundPolicy(require_https=False, networks=loopback_networks())


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def delivery(url: str, run: bytes = b'{"run_id": "r", "kwargs": {}}') -> Delivery:
    return Delivery(
        uuid4(), url, "tenant a", "r", 1, run, result_json(b"{}", None, max_bytes=100), 0.0
    )


@asynccontextmanager
async def sender(policy=LOOPBACK, headers=None, lookup=None, share=1.0, **settings):
    made = Sender(
        policy,
        WebhookSettings.model_validate(settings),
        headers or {},
        share=share,
        **({} if lookup is None else {"lookup": lookup}),
    )
    try:
        yield made
    finally:
        await made.close()


def resolves_to(*addresses: str):
    """Each look-up gets the next of these, the last one for ever."""
    left = list(addresses)

    def lookup(host, port):
        text = left.pop(0) if len(left) > 1 else left[0]
        return [entry for one in text.split() for entry in socket.getaddrinfo(one, port)]

    return lookup


async def test_a_receiver_with_tls_verifies_what_it_gets(authority):
    with hook_receiver(authority) as receiver:
        secrets = SecretStr(f"{NEW}, {OLD}")
        async with sender(
            ca_file=str(authority.ca_file), signing_secrets=secrets, headers={"x-token": "t0ken"}
        ) as one:
            sent = delivery(f"{receiver.url}?a=b")
            assert (await one.call(sent)).problem is None
            assert (await one.call(sent)).problem is None
        first, second = receiver.received
        assert first.path == "/hook?a=b"
        assert first.headers["x-token"] == "t0ken"
        assert first.headers["host"] == f"localhost:{receiver.port}"
        assert first.headers["content-type"] == "application/json"
        assert first.message_id == second.message_id == f"msg_{sent.run_id}"
        for secret in (OLD, NEW):
            assert Webhook(secret).verify(first.body, first.headers) == first.json
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD).verify(first.body.replace(b"r", b"s"), first.headers)
        other = {**first.headers, "webhook-id": "msg_other"}
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD).verify(first.body, other)


async def test_without_secrets_a_call_has_an_id_and_no_signature():
    with hook_receiver() as receiver:
        async with sender(PLAIN) as one:
            assert (await one.call(delivery(receiver.url))).problem is None
        (got,) = receiver.received
        assert "webhook-id" in got.headers
        assert "webhook-signature" not in got.headers


async def test_a_certificate_that_nobody_trusts_or_of_another_host_gets_nothing(authority):
    with hook_receiver(authority) as receiver:
        async with sender() as one:
            outcome = await one.call(delivery(receiver.url))
            assert "self-signed" in outcome.problem or "CERTIFICATE" in outcome.problem
            assert not outcome.final
        trusting = {"ca_file": str(authority.ca_file), "lookup": resolves_to("127.0.0.1")}
        async with sender(**trusting) as one:
            url = receiver.url.replace("localhost", "other.test")
            assert "other.test" in (await one.call(delivery(url))).problem
            # The name of the URL goes with TLS, though the connection goes to an address.
            url = receiver.url.replace("localhost", "hooks.test")
            assert (await one.call(delivery(url))).problem is None
        assert len(receiver.received) == 1


async def test_a_host_is_resolved_once_and_the_checked_address_is_called():
    """A name server that answers differently the second time gains nothing."""
    with hook_receiver() as receiver:
        looked = []

        def lookup(host, port):
            looked.append(host)
            address = "127.0.0.1" if len(looked) == 1 else "169.254.169.254"
            return socket.getaddrinfo(address, port)

        async with sender(PLAIN, lookup=lookup) as one:
            url = receiver.url.replace("localhost", "rebinding.test")
            assert (await one.call(delivery(url))).problem is None
            assert looked == ["rebinding.test"]
            # The next call looks again, and is refused for good.
            outcome = await one.call(delivery(url))
            assert outcome.final
            assert "metadata" in outcome.problem
        assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "addresses",
    ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1", "fd00:ec2::254",
     "100.64.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "8.8.8.8 127.0.0.1", "0.0.0.0"],
)  # fmt: skip
async def test_a_name_of_what_is_not_public_is_refused_for_good(addresses):
    """One public address among others does not help."""
    with hook_receiver() as receiver:
        policy = OutboundPolicy(require_https=False)
        async with sender(policy, lookup=resolves_to(addresses)) as one:
            outcome = await one.call(delivery(receiver.url.replace("localhost", "inside.test")))
            assert outcome.final
            assert "refused" in outcome.problem
        assert receiver.received == []


async def test_redirects_are_not_followed():
    with hook_receiver() as target, hook_receiver() as receiver:
        for status in (301, 302, 303, 307, 308):
            receiver.statuses = [status]
            receiver.headers = {"location": target.url}
            async with sender(PLAIN) as one:
                outcome = await one.call(delivery(receiver.url))
            assert str(status) in outcome.problem
            assert not outcome.final
        assert target.received == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    with hook_receiver() as proxy, hook_receiver() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with sender(PLAIN) as one:
            assert (await one.call(delivery(receiver.url))).problem is None
        assert proxy.received == []
        assert len(receiver.received) == 1


async def test_answers_decide_what_becomes_of_a_delivery():
    with hook_receiver() as receiver:
        async with sender(PLAIN) as one:

            async def answered(status: int, **headers: str):
                receiver.statuses, receiver.headers = [status], headers
                return await one.call(delivery(receiver.url))

            assert (await answered(200)).problem is None
            assert (await answered(400)).problem == "answered 400"
            assert not (await answered(404)).final
            assert (await answered(410)).final
            asked = await answered(503, **{"retry-after": "90"})
            assert (asked.problem, asked.final, asked.pause_seconds) == ("answered 503", False, 90)
            for text, pause in (
                ("99999", 3600),
                ("604800", 3600),
                ("9" * 400, 3600),
                ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
                ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
                ("-5", 0),
                ("soon", 0),
            ):
                assert (await answered(429, **{"retry-after": text})).pause_seconds == pause
            soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
            assert 90 < (await answered(503, **{"retry-after": soon})).pause_seconds <= 100


async def test_a_header_that_cannot_be_sent_is_not_quoted():
    """The problem goes into the log and into the list of dead messages."""
    with hook_receiver() as receiver:
        async with sender(PLAIN, headers={"authorization": "Bearer t0ken "}) as one:
            assert (await one.call(delivery(receiver.url))).problem == "LocalProtocolError"


async def test_a_receiver_that_does_not_answer_fails_in_time():
    with hook_receiver() as receiver:
        receiver.answering.clear()
        async with sender(PLAIN, timeout_seconds=0.3) as one:
            outcome = await one.call(delivery(receiver.url))
        assert outcome.problem == "no whole answer within 0.3 s"
        assert not outcome.final


async def test_of_a_large_answer_only_the_beginning_is_read():
    with hook_receiver() as receiver:
        receiver.statuses, receiver.answer = [200], b"x" * 50_000_000
        async with sender(PLAIN, timeout_seconds=2) as one:
            assert (await one.call(delivery(receiver.url))).problem is None


async def test_nobody_listens_or_no_such_host():
    with hook_receiver() as gone:
        url = gone.url
    async with sender(PLAIN) as one:
        assert "ConnectError" in (await one.call(delivery(url))).problem

    def unknown(host, port):
        raise socket.gaierror("no such host")

    async with sender(lookup=unknown) as one:
        outcome = await one.call(delivery("https://unknown.test/"))
        assert "ConnectError" in outcome.problem
        assert not outcome.final


async def test_names_that_nobody_resolves_hold_up_no_other_caller():
    """A name server that does not answer holds its look-ups for as long as the system waits."""
    answered = threading.Event()
    # As many threads as a process has for jobs of no run.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))

    def lookup(host, port):
        if host == "slow.test":
            answered.wait(20)
            raise socket.gaierror("no such host")
        return socket.getaddrinfo("127.0.0.1", port)

    with hook_receiver() as receiver:
        async with sender(PLAIN, lookup=lookup, share=0.75, timeout_seconds=15) as one:
            slow = [
                asyncio.ensure_future(one.call(delivery("http://slow.test/"))) for _ in range(20)
            ]
            await asyncio.sleep(0.1)
            other = replace(delivery(receiver.url), caller="tenant b")
            outcome = await asyncio.wait_for(asyncio.ensure_future(one.call(other)), 5)
            assert outcome.problem is None
            answered.set()
            assert all(
                "gaierror" in one.problem or "known" in one.problem
                for one in await asyncio.gather(*slow)
            )


async def test_lookups_that_get_no_thread_leave_their_places(monkeypatch):
    """The system may have no more threads for a moment."""
    use_thread_pool(2, places=1)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with hook_receiver() as receiver:
        async with sender(PLAIN, lookup=resolves_to("127.0.0.1"), timeout_seconds=2) as one:
            with monkeypatch.context() as patched:
                patched.setattr(threading.Thread, "start", refuse)
                for _ in range(9):
                    with pytest.raises(RuntimeError):
                        await one.call(delivery(receiver.url))
            outcome = await one.call(delivery(receiver.url))
            assert outcome.problem is None


async def test_a_lookup_that_fails_after_its_call_is_no_error_of_the_process():
    faults, given_up, ended = [], threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context))

    def lookup(host, port):
        given_up.wait(20)
        ended.set()
        raise socket.gaierror("no such host")

    async with sender(PLAIN, lookup=lookup, timeout_seconds=0.1) as one:
        outcome = await one.call(delivery("http://slow.test/"))
        assert "0.1 s" in outcome.problem
        given_up.set()
        await eventually(ended.is_set)
        await asyncio.sleep(0.1)
    gc.collect()
    await asyncio.sleep(0)
    assert faults == []


async def test_what_the_policy_forbids_by_now_is_dead():
    async with sender() as one:
        outcome = await one.call(delivery("http://example.com/"))
        assert outcome.final
        assert "require_https" in outcome.problem


async def test_a_large_run_is_sent_without_its_arguments():
    with hook_receiver() as receiver:
        run = b'{"run_id": "r", "kwargs": {"input": "' + b"x" * 600_000 + b'"}}'
        async with sender(PLAIN, max_payload_bytes=20_000) as one:
            assert (await one.call(delivery(receiver.url, run))).problem is None
        assert len(receiver.received[0].body) < 20_000
        assert receiver.received[0].json["kwargs_omitted"]


@pytest.mark.parametrize(
    "fields",
    [
        {"signing_secrets": "whsec_c2hvcnQ="},
        {"signing_secrets": "not base64!"},
        {"allowed_networks": "10.0.0.0/33"},
        {"allowed_networks": "10.0.0.1/8"},
        {"allowed_ports": "https"},
    ],
)
def test_settings_that_cannot_be_read_are_refused(fields):
    with pytest.raises(ValueError, match=r"webhook|signing_secrets|network|host bits|invalid"):
        WebhookSettings.model_validate(fields)
