"""A server with all doors open, and graphs behind them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.live import LiveServer, live_server

KEY = "a-key-for-all-doors"
GRAPHS = Path(__file__).parent / "graphs" / "doors.py"
NAMES = ("speaks", "calls", "looks", "tones", "counts", "asks", "fails", "waits", "topics")
#: Bodies that are no call of JSON-RPC, and the numbers of the errors that they get.
NO_CALLS = (
    *((body, -32600) for body in ("null", "[]", "{}", "1", "1.5", '"ping"', "true", "[[[]]]")),
    ('[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', -32600),
    *((body, -32700) for body in ("", " ", "{", "nul", "NaN", '{"id": 1,}', "'x'")),
)


def manifest_in(folder: Path, **http: object) -> Path:
    """A manifest with the graphs."""
    path = folder / "langgraph.json"
    graphs = {name: f"{GRAPHS}:{name}" for name in NAMES}
    path.write_text(json.dumps({"graphs": graphs, **({"http": http} if http else {})}))
    return path


@contextmanager
def open_doors(
    folder: Path, database_url: str, *, keys: str = KEY, **environment: str
) -> Iterator[LiveServer]:
    config = manifest_in(folder, doors=["openai"], disable_mcp=False)
    own: dict[str, Any] = {
        "HEADRACE_SERVER__DOORS": "a2a",
        "HEADRACE_API_KEYS": keys,
        **environment,
    }
    with live_server(folder, database_url, config=config, **own) as server:
        yield server
