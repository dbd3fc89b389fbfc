"""Keys of the database and a whole server: the command line, two processes, every door."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from headrace.cli.keys import app
from tests.support.doors import open_doors
from tests.support.live import LiveServer
from tests.support.stored_keys import revoke_key, store_key
from tests.support.waiting import wait_until

REFRESH_SECONDS = 0.3


@pytest.fixture(scope="module")
def server(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Two processes and all doors. Nobody is anonymous, and the environment has no key."""
    with open_doors(
        tmp_path_factory.mktemp("keys"),
        module_database,
        keys="",
        HEADRACE_AUTH="required",
        HEADRACE_EDGE__METRICS="on",
        HEADRACE_AUTH__KEYS_REFRESH_SECONDS=str(REFRESH_SECONDS),
    ) as found:
        yield found


@pytest.fixture
def headrace(module_database: str) -> Any:
    runner = CliRunner(env={"DATABASE_URL": module_database})

    def run(*arguments: str) -> Any:
        return runner.invoke(app, list(arguments))

    return run


def status(server: LiveServer, key: str | None, path: str = "/threads/count") -> int:
    """Of a request on a connection of its own, which any process may answer."""
    headers = {} if key is None else {"x-api-key": key}
    return httpx.post(f"{server.url}{path}", json={}, headers=headers, timeout=10).status_code


def test_a_key_is_shown_once_listed_by_its_prefix_and_revoked_everywhere(server, headrace):
    assert status(server, None) == 401
    created = headrace("create", "--name", "nightly", "--owner", "job-1", "--expires", "1h")
    assert created.exit_code == 0, created.output
    key = created.stdout.strip()
    prefix = key.split("_")[1]
    assert f"{prefix}  tenant default  owner job-1  read,write  expires 20" in created.stderr
    # Each process has seen it.
    assert {status(server, key) for _ in range(20)} == {200}

    listed = headrace("list").stdout
    assert prefix in listed
    assert "nightly" in listed
    assert key.split("_")[2] not in listed
    (told,) = json.loads(headrace("list", "--json").stdout)
    assert (told["owner"], told["scopes"]) == ("job-1", ["read", "write"])

    revoked = headrace("revoke", f"hr_{prefix}")
    assert revoked.exit_code == 0
    assert "revoked 20" in revoked.stdout
    wait_until(lambda: {status(server, key) for _ in range(10)} == {401}, seconds=10)
    assert {status(server, key) for _ in range(20)} == {401}
    assert headrace("list").stdout == "there are none\n"
    assert prefix in headrace("list", "--all").stdout
    again = headrace("revoke", key)
    assert again.stdout == revoked.stdout
    assert headrace("revoke", "0" * 12).exit_code == 1
    assert key not in server.log()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scopes", "admin"], "not one of read, write, tenant"),
        (["--scopes", "tenant"], "opens nothing"),
        (["--scopes", ""], "opens nothing"),
        (["--tenant", "system"], "printable"),
        (["--tenant", ""], "printable"),
        (["--owner", "anonymous"], "printable"),
        (["--owner", "a\nb"], "printable"),
        (["--expires", "soon"], "is no time"),
        (["--expires", "0d"], "is over already"),
        (["--expires", "2020-01-01"], "is over already"),
        (["--expires", "999999w"], "is no time"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(headrace, arguments, words):
    before = json.loads(headrace("list", "--json", "--all").stdout)
    refused = headrace("create", *arguments)
    assert refused.exit_code == 2
    assert words in " ".join(refused.stderr.replace("│", " ").split())
    assert json.loads(headrace("list", "--json", "--all").stdout) == before


def test_json_has_the_key_too(headrace):
    made = json.loads(headrace("create", "--json", "--tenant", "acme", "--scopes", "write").stdout)
    assert made["key"].startswith(f"hr_{made['prefix']}_")
    assert (made["tenant"], made["owner"]) == ("acme", f"key-{made['prefix']}")
    assert made["scopes"] == ["read", "write"]
    (listed,) = json.loads(headrace("list", "--json", "--tenant", "acme").stdout)
    assert "key" not in listed
    assert "sha256" not in listed


def test_an_expired_key_is_refused_with_a_sentence(server, module_database):
    key = store_key(module_database, expires_in=-1)
    answer = httpx.get(f"{server.url}/threads/x", headers={"x-api-key": key.text}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.json()["detail"] == "This API key has expired; ask for a new one."


@pytest.mark.parametrize("header", ["x-api-key", "Authorization"])
def test_every_door_takes_the_key_and_refuses_a_revoked_one(server, module_database, header):
    key, revoked = store_key(module_database), store_key(module_database)
    revoke_key(module_database, revoked)
    socket = f"ws{server.url.removeprefix('http')}/threads/t/stream/events"
    doors: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/threads/search", {}),
        ("GET", "/v1/models", None),
        ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}),
        ("GET", "/openapi.json", None),
    )
    for text, opens in ((key.text, True), (revoked.text, False)):
        headers = {header: text if header == "x-api-key" else f"Bearer {text}"}
        accepts = {"Accept": "application/json, text/event-stream"}
        for method, path, body in doors:
            answer = httpx.request(
                method, server.url + path, json=body, headers=headers | accepts, timeout=10
            )
            assert (answer.status_code == 200) is opens, (path, answer.text)
            assert opens or answer.status_code == 401
        if opens:
            with connect(socket, additional_headers=headers):
                pass
        else:
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(socket, additional_headers=headers),
            ):
                pass
            assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("method", "params"),
    [("agent.getTree", {}), ("subscription.subscribe", {"channels": ["values"], "since": 0})],
)
def test_a_socket_takes_no_command_of_a_key_that_was_revoked(
    server, module_database, method, params
):
    key = store_key(module_database)
    headers = {"x-api-key": key.text}
    made = httpx.post(f"{server.url}/threads", json={}, headers=headers, timeout=10).json()
    url = f"ws{server.url.removeprefix('http')}/threads/{made['thread_id']}/stream/events"
    with connect(url, additional_headers=headers) as socket:

        def answer() -> dict[str, Any]:
            command = {"id": 1, "method": method, "params": params}
            socket.send(json.dumps(command))
            told: dict[str, Any] = json.loads(socket.recv(timeout=10))
            return told

        assert "revoked" not in json.dumps(answer())
        revoke_key(module_database, key)
        wait_until(lambda: "revoked" in json.dumps(answer()), seconds=10)


def test_it_is_counted(server, module_database):
    key = store_key(module_database)
    status(server, key.text)
    status(server, "nothing")
    headers = {"x-api-key": key.text}
    told = httpx.get(f"{server.url}/metrics", headers=headers, timeout=10).text
    assert 'headrace_auth_checks_total{outcome="admitted",proof="database_key"}' in told
    assert 'headrace_auth_checks_total{outcome="refused",proof="none"}' in told
