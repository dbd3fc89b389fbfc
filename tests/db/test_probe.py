"""What the probe tells about the server at start."""

import pytest

from headrace.db.logins import Login
from headrace.db.probe import probe
from headrace.errors import StartupRefusal
from tests.support.processes import free_port


async def test_the_probe_sees_a_direct_server(database_url):
    facts = await probe(Login(database_url))
    assert not facts.behind_pooler
    assert not facts.in_recovery
    assert facts.max_connections == 200
    assert database_url.split("/")[3].startswith(facts.database)


async def test_an_unreachable_server_is_named_without_the_password():
    with pytest.raises(StartupRefusal) as refused:
        await probe(Login(f"postgresql://ada:s3cret@127.0.0.1:{free_port()}/chat"))
    assert refused.value.code == "HR301"
    assert "127.0.0.1" in refused.value.where
    assert "s3cret" not in str(refused.value)
