"""Plays a day of a server inside a network namespace that leads nowhere, and prints what happened.

Started by tests/acceptance/test_closed_network.py: ``python -m tests.support.closed_network FOLDER
URL``. The namespace has a device ``outside`` with the default route; the kernel counts what is sent
there.
"""

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from langgraph_sdk import get_sync_client

from tests.support.live import live_server
from tests.support.waiting import wait_until

HI = {"messages": [{"role": "user", "content": "hi"}]}
DEVICE = "outside"


def sent() -> int:
    """Packets that have left by the device."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == DEVICE:
            return int(figures.split()[9])
    raise AssertionError(f"there is no {DEVICE}")


def counts_calls() -> bool:
    """Whether a call to somebody outside is counted, and a look into the DNS."""
    before = sent()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"hello", ("10.99.7.7", 9))
    after = sent()
    try:
        socket.getaddrinfo("example.org", 443)
    except OSError:
        return before < after < sent()
    return False


def play(url: str) -> dict[str, Any]:
    """Use what the API has; returns what a test looks at."""
    client: Any = get_sync_client(url=url)
    thread = client.threads.create(metadata={"note": "here"})["thread_id"]
    told: dict[str, Any] = {}
    told["reply"] = client.runs.wait(thread, "agent", input=HI)["messages"][-1]["content"]
    parts = client.runs.stream(thread, "agent", input=HI, stream_mode=["values", "messages"])
    told["events"] = sorted({part.event.partition("/")[0] for part in parts})
    asked = client.threads.create()["thread_id"]
    client.runs.wait(asked, "hitl", input={"topic": "it"})
    told["answer"] = client.runs.wait(asked, "hitl", command={"resume": "yes"})["answer"]
    told["threads"] = len(client.threads.search(metadata={"note": "here"}))
    client.store.put_item(["notes"], "one", {"text": "here"})
    told["item"] = client.store.get_item(["notes"], "one")["value"]
    cron = client.crons.create_for_thread(thread, "agent", schedule="* * * * * *", input=HI)
    wait_until(lambda: len(client.runs.list(thread)) > 2, seconds=20)
    client.crons.delete(cron["cron_id"])
    told["chat"] = httpx.post(f"{url}/chat", json={"message": "hi"}, timeout=30).status_code
    pages = ("/health", "/readyz", "/metrics", "/docs", "/openapi.json", "/info")
    told["pages"] = {path: httpx.get(url + path, timeout=30).status_code for path in pages}
    return told


def main(folder: Path, url: str) -> None:
    counted = counts_calls()
    before = sent()
    with live_server(folder, url) as server:
        told = play(server.url)
        time.sleep(1)
    print(json.dumps({"counted": counted, "sent": sent() - before, **told}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
