"""``headrace store reindex`` for another model, while a server searches and puts."""

import json
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.migrations.commands import run_headrace
from tests.support import words
from tests.support.live import GRAPHS, live_server

pytestmark = pytest.mark.acceptance

_ITEMS = 60


def manifest(folder: Path, **index: object) -> Path:
    folder.mkdir()
    (folder / "words.py").write_text(Path(words.__file__).read_text())
    store = {"index": {"fields": ["text"], **index}}
    graphs = {"agent": f"{GRAPHS.parent / 'graphs.py'}:agent"}
    path = folder / "langgraph.json"
    path.write_text(json.dumps({"graphs": graphs, "store": store}))
    return path


def put(client: httpx.Client, key: str) -> httpx.Response:
    item = {"namespace": ["n"], "key": key, "value": {"text": f"tea {key}"}}
    return client.put("/store/items", json=item)


def search(client: httpx.Client, text: str) -> httpx.Response:
    body = {"namespace_prefix": ["n"], "query": text, "limit": 5}
    return client.post("/store/items/search", json=body)


def test_a_server_goes_on_until_the_exchange_and_then_says_what_happened(tmp_path, database_url):
    old = manifest(tmp_path / "old", dims=words.DIMS, embed="./words.py:embed")
    new = manifest(tmp_path / "new", dims=2 * words.DIMS, embed="./words.py:wider")
    assert run_headrace("db", "upgrade", database_url=database_url, folder=old.parent)
    stop, answers, stored = threading.Event(), Counter[str](), []

    def go_on(url: str) -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            for number in range(100_000):
                if stop.is_set():
                    return
                key = f"late-{number}"
                for answer in (put(client, key), search(client, "tea k1")):
                    code = answer.json().get("code", "") if answer.status_code >= 400 else ""
                    answers[f"{answer.status_code} {code}".strip()] += 1
                    if answer.request.method == "PUT" and answer.is_success:
                        stored.append(key)

    with live_server(tmp_path / "first", database_url, config=old, processes=1) as server:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for number in range(_ITEMS):
                assert put(client, f"k{number}").is_success
        going = threading.Thread(target=go_on, args=(server.url,))
        going.start()
        try:
            done = run_headrace(
                "store", "reindex", "--batch", "10", database_url=database_url, folder=new.parent
            )
            assert done.returncode == 0, done.stderr
            with httpx.Client(base_url=server.url, timeout=20) as client:
                for answer in (put(client, "after"), search(client, "tea")):
                    assert (answer.status_code, answer.json()["code"]) == (503, "index_changed")
                # What needs no vectors goes on.
                assert client.get("/store/items", params={"namespace": "n", "key": "k1"}).is_success
        finally:
            stop.set()
            going.join(30)
    assert set(answers) <= {"200", "204", "503 index_changed"}
    assert stored
    with (
        live_server(tmp_path / "second", database_url, config=new, processes=1) as server,
        httpx.Client(base_url=server.url, timeout=20) as client,
    ):
        for key in (stored[0], stored[-1], "k7"):
            (nearest, *_) = search(client, f"tea {key}").json()["items"]
            # Another item may have the same hashes.
            assert nearest["score"] == pytest.approx(1.0, abs=1e-3), (key, nearest)
