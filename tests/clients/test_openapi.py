"""The OpenAPI is complete and true: schemathesis asks all of it, and what it does not allow.

A short form; `make fuzz` is the long one (FUZZ_SECONDS), with another seed each time.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.live import live_server
from tests.support.sources import ROOT

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

#: Callers need a key here, as on the internet.
KEY = "a-key-of-the-fuzz-5f0e3a1c"
SENT = {"x-api-key": KEY}
CONFIG = Path(__file__).with_name("fuzz.json")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "0"))

#: Streams without an end; probes and the small door; what takes a thing from under the others.
_NOT_ASKED = r"^/threads/\{thread_id\}/stream|^/chat|^/(health|livez|readyz|startupz)"
_CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
#: Bounded in number, not in time: what is asked does not hang on how busy the machine is.
_SHORT = ["--phases", "fuzzing", "--max-examples", "2", "--seed", "1", "--no-shrink"]
_LONG = ["--phases", "coverage,fuzzing", "--max-examples", "1000", "--max-time", str(SECONDS)]


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    with live_server(
        folder, module_database, config=CONFIG, HEADRACE_API_KEYS=KEY, HEADRACE_EDGE__METRICS="on"
    ) as running:
        yield running


def things(url: str) -> str:
    """A configuration that names things that are there, so that not every answer is a 404."""
    with httpx.Client(base_url=url, headers=SENT, timeout=30) as client:
        thread = client.post("/threads", json={}).json()["thread_id"]
        body = {"assistant_id": "agent", "input": {"messages": []}}
        run = client.post(f"/threads/{thread}/runs", json=body).json()["run_id"]
        client.get(f"/threads/{thread}/runs/{run}/join")
        graph = client.post("/assistants/search", json={"graph_id": "agent"}).json()[0]
        checkpoint = client.get(f"/threads/{thread}/state").json()["checkpoint_id"]
    named = {
        "thread_id": thread,
        "run_id": run,
        "assistant_id": graph["assistant_id"],
        "checkpoint_id": checkpoint,
    }
    return "[parameters]\n" + "".join(f'"path.{name}" = "{it}"\n' for name, it in named.items())


def test_no_answer_is_a_fault_or_undescribed(server, tmp_path):
    config = tmp_path / "schemathesis.toml"
    config.write_text(things(server.url))
    command = [
        *[sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)],
        *["run", f"{server.url}/openapi.json", "--checks", ",".join(_CHECKS), "--no-color"],
        *["--header", f"x-api-key: {KEY}"],
        *["--request-timeout", "30", "--continue-on-failure", "--generation-database", "none"],
        *["--exclude-path-regex", _NOT_ASKED],
        *(_LONG if SECONDS else _SHORT),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    asked = re.search(r"Test cases:\n\s+(\d+) generated", answer.stdout)
    assert answer.returncode == 0, answer.stdout[-6000:] + answer.stderr[-2000:]
    assert asked, answer.stdout[-3000:]
    assert int(asked[1]) > 60
    print(answer.stdout[-1500:])


def test_every_operation_tells_what_it_answers(server):
    described = httpx.get(f"{server.url}/openapi.json", headers=SENT, timeout=30).json()
    silent, framework, refusing = [], [], set()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            fine = {status: it for status, it in operation["responses"].items() if status < "3"}
            if not operation.get("description") or not fine:
                silent.append(f"{method} {path}")
            if "4XX" in operation["responses"]:
                refusing.add(path)
            if "422" in operation["responses"]:
                framework.append(path)
            empty = all("content" not in it for it in fine.values())
            if empty and not {"202", "204"} & set(fine):
                silent.append(f"{method} {path}: {sorted(fine)}")
    assert silent == []
    assert {"/threads", "/runs/wait", "/store/items", "/assistants"} <= refusing
    # FastAPI's own form of a refusal is left where no room of ours answers.
    assert framework == ["/metrics"]


def rows() -> set[str]:
    """The operations of docs/compatibility.md, as ``GET /threads/{}``."""
    told = set()
    for line in (ROOT / "docs" / "compatibility.md").read_text().splitlines():
        methods: list[str] = []
        also: list[str] = []
        before = ""
        for words in re.findall(r"`([^`]+)`", line.split("|")[1] if line[:1] == "|" else ""):
            *named, path = words.split()
            if path.isupper():  # `GET`, `POST /path`
                also.append(path)
                continue
            methods = [*also, *named] or methods
            also = []
            for full in written_out(path, before):
                told |= {f"{method} {full}" for method in methods}
            before = written_out(path, before)[0]
    return told


def written_out(path: str, before: str) -> list[str]:
    """What a row's path may stand for: itself, and in place of the last step of the one before."""
    path = re.sub(r"\{[^}]*\}", "{}", path.replace("...", "/threads/{}", 1))
    return [path, before.rsplit("/", 1)[0] + path]


def test_every_operation_has_its_row_in_the_documentation(server):
    described = httpx.get(f"{server.url}/openapi.json", headers=SENT, timeout=30).json()["paths"]
    operations = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
        for path, methods in described.items()
        for method in methods
        if not re.match(r"/(chat|health|livez|readyz|startupz)", path)  # headrace's own
    }
    assert operations - rows() == set()
