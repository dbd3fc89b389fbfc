"""Secrets in every field of every operation: where they may be stored, and where they never are."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.apps import GRAPHS
from tests.support.live import live_server
from tests.support.otlp_receiver import otlp_receiver
from tests.support.waiting import wait_until

#: The columns that store what callers send, by contract (docs/secrets.md).
STORED = {
    "assistants": {"config", "context", "metadata", "name", "description"},
    "assistant_versions": {"config", "context", "metadata", "name", "description"},
    "threads": {"config", "metadata", "interrupts"},
    "runs": {"kwargs", "metadata"},
    "crons": {"payload", "kwargs", "metadata", "user_id", "headers", "request"},
    "run_events": {"data", "payload"},
    "store": {"prefix", "key", "value"},
    "checkpoints": {"metadata", "checkpoint"},
    "checkpoint_blobs": {"blob"},
    "checkpoint_writes": {"blob"},
    "idempotency_keys": {"key"},
}
#: What callers write into metadata stands in that of checkpoints, too. Nothing else of them does.
METADATA = ".metadata"

#: Values that let a request through.
KNOWN = {
    "assistant_id": "keeps",
    "graph_id": "keeps",
    "schedule": "0 0 1 1 *",
    "timezone": "UTC",
    "stream_mode": "values",
    "if_not_exists": "create",
    "on_disconnect": "continue",
    "multitask_strategy": "enqueue",
    "durability": "sync",
    "interrupt_before": None,
    "interrupt_after": None,
    "checkpoint": None,
    "checkpoint_id": None,
    "command": None,
    "webhook": None,
    "after_seconds": None,
    "on_completion": "keep",
    "feedback_keys": None,
    "langsmith_tracer": None,
    "supersteps": None,
    "as_node": None,
    "model": "keeps",
    "ttl": None,
    "limit": 10,
    "offset": 0,
    "stream": False,
    "end_time": None,
    "deadline_seconds": None,
}


@dataclass
class Canaries:
    """Secrets that look like nothing, by the place where they were put."""

    places: dict[str, str] = field(default_factory=dict)

    def new(self, place: str) -> str:
        text = f"Zq7{uuid4().hex}"
        self.places[text] = place
        return text

    def found_in(self, text: str) -> list[str]:
        return sorted({place for canary, place in self.places.items() if canary in text})


@dataclass
class Planter:
    schema: dict[str, Any]
    canaries: Canaries

    def body(self, schema: Any, place: str, depth: int = 0) -> Any:
        """A value of this schema with a canary in each text."""
        name = place.rpartition(".")[2]
        if depth and name in KNOWN:
            return KNOWN[name]
        while "$ref" in schema:
            schema = self.schema["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                chosen = [one for one in schema[key] if one.get("type") != "null"]
                return self.body(chosen[0], place, depth)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        kind = schema.get("type")
        if depth > 6:
            return None
        if kind == "object":
            found = {
                key: self.body(one, f"{place}.{key}", depth + 1)
                for key, one in schema.get("properties", {}).items()
            }
            if not found or schema.get("additionalProperties") is True:
                found |= self._free(name, place)
            return {key: value for key, value in found.items() if value is not None}
        if kind == "array":
            return [self.body(schema.get("items", {}), f"{place}.item", depth + 1)]
        if kind in ("integer", "number"):
            return schema.get("minimum", 1)
        if kind == "boolean":
            return False
        if kind == "string":
            return str(uuid4()) if schema.get("format") == "uuid" else self.canaries.new(place)
        return self._free(name, place)

    def _free(self, name: str, place: str) -> dict[str, Any]:
        def new(key: str) -> str:
            return self.canaries.new(f"{place}.{key}")

        found: dict[str, Any] = {"text": new("text"), "inner": {"api_key": new("inner")}}
        if name == "config":
            return {
                "tags": [new("tags")],
                "metadata": {"note": new("metadata")},
                "configurable": {
                    "api_key": new("configurable"),
                    "plain": new("configurable"),
                    "langgraph_auth_user": {"identity": new("server")},
                    "langgraph_auth_user_id": new("server"),
                    "__pregel_task_id": new("server"),
                },
            }
        if name == "input":
            found["messages"] = [{"role": "user", "content": new("messages")}]
        return found


def requests_of(planter: Planter, ids: dict[str, str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A request for each operation: method, path, and the rest."""
    for path, operations in planter.schema["paths"].items():
        if path.startswith(("/docs", "/openapi")):
            continue
        for method, operation in operations.items():
            if method not in ("get", "post", "put", "patch", "delete"):
                continue
            here = f"{method.upper()} {path}"
            real = path
            for name, value in ids.items():
                real = real.replace("{" + name + "}", value)
            if "{" in real:
                continue
            more: dict[str, Any] = {
                "headers": {
                    "authorization": f"Bearer {planter.canaries.new(f'{here} authorization')}",
                    "cookie": f"a={planter.canaries.new(f'{here} cookie')}",
                    "x-forwarded-user": planter.canaries.new(f"{here} header"),
                    "x-visible": planter.canaries.new(f"{here} .headers visible"),
                    "idempotency-key": planter.canaries.new(f"{here} idempotency-key"),
                },
                "params": {"planted": planter.canaries.new(f"{here} query")},
            }
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = content["application/json"].get("schema", {})
                more["json"] = planter.body(schema, f"{here} body")
            yield method.upper(), real, more


OWN = {
    "api key": f"own-api-{uuid4().hex}",
    "database": f"own-database-{uuid4().hex}",
    "model": f"own-model-{uuid4().hex}",
    "signing": "whsec_b3duLXNpZ25pbmctc2VjcmV0LW9mLXRoaXMtdGVzdA==",
}


@contextmanager
def planted_server(folder: Path, url: str, otlp: str) -> Iterator[Any]:
    manifest = folder / "langgraph.json"
    graphs = {name: f"{GRAPHS / 'planted.py'}:{name}" for name in ("keeps", "asks", "above")}
    http = {"configurable_headers": {"includes": ["x-visible"]}}
    manifest.write_text(json.dumps({"graphs": graphs, "http": http}))
    with live_server(
        folder,
        make_conninfo(url, **{**conninfo_to_dict(url), "password": OWN["database"]}),
        config=manifest,
        processes=1,
        HEADRACE_API_KEYS=OWN["api key"],
        HEADRACE_SERVER__DOORS="openai,mcp,a2a",
        HEADRACE_WEBHOOKS__SIGNING_SECRETS=OWN["signing"],
        HEADRACE_OBSERVABILITY__LOG_LEVEL="debug",
        OPENAI_API_KEY=OWN["model"],
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp,
        OTEL_BSP_SCHEDULE_DELAY="100",
    ) as server:
        yield server


@pytest.mark.timeout(120)
def test_planted_secrets_are_stored_by_contract_and_shown_nowhere(database_url, tmp_path):
    canaries = Canaries()
    with (
        otlp_receiver() as receiver,
        planted_server(tmp_path, database_url, receiver.url) as server,
        httpx.Client(
            base_url=server.url, headers={"x-api-key": OWN["api key"]}, timeout=20
        ) as client,
    ):
        planter = Planter(client.get("/openapi.json").json(), canaries)
        thread = client.post("/threads", json={}).json()["thread_id"]
        run = client.post(
            f"/threads/{thread}/runs", json={"assistant_id": "keeps", "input": {}}
        ).json()["run_id"]
        assistant = client.post("/assistants", json={"graph_id": "keeps"}).json()["assistant_id"]
        ids = {"thread_id": thread, "run_id": run, "assistant_id": assistant, "graph_id": "keeps"}
        answers: dict[str, int] = {}
        planned = list(requests_of(planter, ids))
        # What deletes comes last.
        planned.sort(key=lambda one: one[0] == "DELETE")
        for method, path, more in planned:
            with client.stream(method, path, **more) as answer:
                if "event-stream" not in answer.headers.get("content-type", ""):
                    answer.read()
                    assert answer.status_code != 500, (method, path, answer.text)
                answers[f"{method} {path}"] = answer.status_code
        _through_graphs(client, canaries)
        told = {
            path: client.get(path).text
            for path in ("/metrics", "/metrics?format=json", "/health", "/readyz", "/info", "/ok")
        }
        wait_until(lambda: len(receiver.spans) > 20)
        told["spans"] = repr(receiver.spans)
        told["log"] = server.log()
    stored = _stored(database_url, canaries)
    good = [one for one, status in answers.items() if status < 300]
    assert len(good) > len(answers) / 3, answers
    assert len(canaries.places) > 500
    assert told["spans"] != "[]"
    for name, text in told.items():
        assert canaries.found_in(text) == [], name
        own = [secret for secret, value in OWN.items() if value in text]
        assert own == [], name
    for table, columns in stored.items():
        for column, places in columns.items():
            assert column in STORED.get(table, ()), (table, column, places)
            if (table, column) == ("checkpoints", "metadata"):
                assert [place for place in places if METADATA not in place] == []
    assert not [
        one
        for columns in stored.values()
        for found in columns.values()
        for one in found
        if "server" in one or "authorization" in one or "cookie" in one
    ], stored
    assert any("visible" in place for place in stored["runs"]["kwargs"])


def _through_graphs(client: httpx.Client, canaries: Canaries) -> None:
    """Runs that surely execute, with everything that a client may send."""
    for graph in ("keeps", "above", "asks"):
        body = {
            "assistant_id": graph,
            "input": {"text": canaries.new("run .input"), "messages": [canaries.new("run .input")]},
            "config": {
                "tags": [canaries.new("run .tags")],
                "configurable": {
                    "api_key": canaries.new("run .configurable"),
                    "plain": canaries.new("run .configurable"),
                    "number": 4711,
                    "langgraph_auth_user": canaries.new("run server"),
                    "__pregel_x": canaries.new("run server"),
                },
            },
            "metadata": {"note": canaries.new("run .metadata")},
            "stream_resumable": True,
            "stream_mode": ["values", "updates", "debug", "tasks", "checkpoints"],
        }
        for path in ("/runs/wait", "/runs/stream"):
            key = {"idempotency-key": canaries.new("run idempotency-key")}
            answer = client.post(path, json=body, headers=key)
            assert answer.status_code == 200, answer.text
        thread = client.post("/threads", json={}).json()["thread_id"]
        seen = {"x-visible": canaries.new("run .headers visible")}
        answer = client.post(f"/threads/{thread}/runs/wait", json=body, headers=seen)
        assert answer.status_code == 200, answer.text
        given = {**body, "config": {}, "context": {"api_key": canaries.new("run .context")}}
        assert client.post("/runs/wait", json=given).status_code == 200


def _stored(url: str, canaries: Canaries) -> dict[str, dict[str, list[str]]]:
    """Where the database has canaries, by table and column."""
    found: dict[str, dict[str, list[str]]] = {}
    with psycopg.connect(url, autocommit=True) as database:
        columns = database.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        ).fetchall()
        for table, column, kind in columns:
            shown = "encode({}, 'escape')" if kind == "bytea" else "{}::text"
            query = sql.SQL("SELECT string_agg(" + shown + ", ' ') FROM {}").format(
                sql.Identifier(column), sql.Identifier(table)
            )
            row = database.execute(query).fetchone()
            if places := canaries.found_in((row and row[0]) or ""):
                found.setdefault(table, {})[column] = places
    return found
