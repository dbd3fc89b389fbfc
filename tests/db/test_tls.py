"""TLS to a real Postgres, with certificates of the test's own: each refusal is one sentence."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.db.logins import login_of
from headrace.db.migrate import upgrade
from headrace.db.pool_builder import build_pool
from headrace.db.probe import probe
from headrace.errors import StartupRefusal
from headrace.notices.notifier import PostgresNotifier
from headrace.setting_groups import WorkerSettings
from headrace.worker.heartbeat import Heartbeat
from tests.support.certificates import Authority
from tests.support.database import PrivatePostgres, database_settings
from tests.support.plugin import data_directory
from tests.support.tls_postgres import TlsPostgres, tls_postgres
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsPostgres]:
    with (
        data_directory() as data,
        tls_postgres(data, tmp_path_factory.mktemp("certificates")) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA that the server does not know."""
    return Authority.create(tmp_path_factory.mktemp("stranger") / "ca", name="a stranger")


async def refusal(url: str) -> StartupRefusal:
    """That of a server's start, which is that of a migration too."""
    with pytest.raises(StartupRefusal) as refused:
        await probe(login_of(database_settings(url)), timeout_seconds=5)
    assert refused.value.code == "HR340"
    return refused.value


async def test_verify_full_with_a_client_certificate(server: TlsPostgres) -> None:
    client = server.authority.issue("certified")
    facts = await probe(login_of(database_settings(server.certified(client))))
    assert facts.encrypted


async def test_a_wrong_ca(server: TlsPostgres, stranger: Authority) -> None:
    refused = await refusal(server.url(sslrootcert=stranger.file))
    assert "not signed by the CA in sslrootcert" in refused.what


async def test_a_ca_of_the_same_name_with_another_key(server: TlsPostgres, tmp_path: Path) -> None:
    refused = await refusal(server.url(sslrootcert=Authority.create(tmp_path / "ca").file))
    assert "not signed by the CA in sslrootcert" in refused.what


async def test_a_wrong_host_name(server: TlsPostgres) -> None:
    refused = await refusal(server.url(host="db.example.org"))
    assert refused.what == "the server's certificate is for another host name"


async def test_an_expired_certificate_of_the_server(server: TlsPostgres) -> None:
    good = server.authority.issue("server", hosts=("localhost",))
    server.serve(server.authority.issue("old", hosts=("localhost",), days=-1))
    try:
        refused = await refusal(server.url())
        assert "has expired" in refused.what
    finally:
        server.serve(good)


async def test_no_ca_file(server: TlsPostgres) -> None:
    refused = await refusal(server.url(sslrootcert="/nowhere/ca.pem"))
    assert "the file in sslrootcert is not there" in refused.what


async def test_no_client_certificate(server: TlsPostgres) -> None:
    refused = await refusal(server.url(user="certified", sslcert="/nowhere/client.crt"))
    assert "the server asks for a client certificate" in refused.what


async def test_the_client_certificate_of_another_role(server: TlsPostgres) -> None:
    refused = await refusal(server.certified(server.authority.issue("somebody")))
    assert refused.what == "the client certificate is for another role"


async def test_an_expired_client_certificate(server: TlsPostgres) -> None:
    refused = await refusal(server.certified(server.authority.issue("certified", days=-1)))
    assert "client certificate" in refused.what
    assert "expired" in refused.what


async def test_a_client_certificate_of_another_ca(server: TlsPostgres, stranger: Authority) -> None:
    refused = await refusal(server.certified(stranger.issue("certified")))
    assert refused.what == "the server refuses the client certificate"


async def test_a_key_that_others_may_read(server: TlsPostgres) -> None:
    client = server.authority.issue("certified")
    client.key.chmod(0o644)
    refused = await refusal(server.certified(client))
    assert "sslcert and sslkey cannot be used" in refused.what


async def test_a_server_without_tls(private_postgres: PrivatePostgres) -> None:
    refused = await refusal(f"{private_postgres.url}?sslmode=require")
    assert "has TLS switched off" in refused.what


async def test_pool_listener_lease_and_migration_say_it(
    server: TlsPostgres, stranger: Authority
) -> None:
    wrong = database_settings(
        server.url(sslrootcert=stranger.file), open_timeout_seconds=2, acquire_timeout_seconds=1
    )
    sentence = "the CA in sslrootcert"
    pool = build_pool(wrong, behind_pooler=False)
    try:
        await pool.open(wait=False)
        await eventually(lambda: pool.fault is not None)
        assert sentence in str(pool.fault)
        with capture_logs() as lines:
            notifier = PostgresNotifier(pool)
            await notifier.start()
            await eventually(lambda: any(line["event"] == "notices_lost" for line in lines))
            await notifier.stop()
        assert all(sentence in line["error"] for line in lines if line["event"] == "notices_lost")
    finally:
        await pool.close()
    with pytest.raises(StartupRefusal, match="HR340") as leased:
        await Heartbeat(login_of(wrong), WorkerSettings()).start()
    assert sentence in leased.value.what
    with pytest.raises(StartupRefusal, match="HR340") as migrated:
        # In a thread: it starts an event loop of its own.
        await asyncio.to_thread(upgrade, wrong)
    assert sentence in migrated.value.what
