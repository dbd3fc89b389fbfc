"""Whatever comes in: a clear 4xx in one form, and nothing is lost or left behind."""

import httpx
import psycopg
import pytest

pytestmark = pytest.mark.acceptance

JSON = {"content-type": "application/json"}
#: A UUID that nothing has; fixed, so that the tests have the same names in every process.
UNKNOWN = "0192f6a8-7c1e-7e00-8000-5f0e3a1c9b77"
RUN = {"assistant_id": "agent", "input": {"messages": []}}


@pytest.fixture(scope="module")
def http(module_server):
    with httpx.Client(base_url=module_server.url, timeout=10) as client:
        yield client


@pytest.fixture
def thread_id(http) -> str:
    created: str = http.post("/threads", json={}).json()["thread_id"]
    return created


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/threads", b"{bad json", "Invalid JSON"),
        ("/threads", b'{"metadata": NaN}', "Invalid JSON"),
        ("/threads", b'{"metadata": {"a": "\\ud800"}}', "Invalid JSON"),
        ("/threads", b'"text"', "body"),
        ("/threads", b'{"metadata": 5}', "metadata"),
        ("/threads", b'{"metadata": {"a": "x\\u0000"}}', "NUL"),
        ("/threads", b'{"thread_id": "not-a-uuid"}', "thread_id"),
        ("/threads", b'{"if_exists": "maybe"}', "if_exists"),
        ("/runs/wait", b'{"input": {}}', "assistant_id"),
        ("/runs/wait", b'{"assistant_id": "nope"}', "one of the graphs"),
        ("/runs/wait", b'{"assistant_id": "agent", "stream_mode": "weird"}', "stream_mode"),
        ("/runs/wait", b'{"assistant_id": "agent", "config": 3}', "config"),
        ("/runs/wait", b'{"assistant_id": "agent", "config": {"configurable": 3}}', "configurable"),
        ("/runs/wait", b'{"assistant_id": "agent", "multitask_strategy": "x"}', "multitask"),
        ("/runs/stream", b'{"assistant_id": "agent\\u0000"}', "NUL"),
        ("/runs/stream", b"[" * 200 + b"]" * 200, "nested"),
        ("/chat", b"{}", "message"),
        ("/chat", b'{"message": ""}', "message"),
        ("/chat", b'{"message": 5}', "message"),
        ("/chat", b'{"message": "hi", "thread_id": ""}', "thread_id"),
        ("/chat", b'{"message": "hi", "thread_id": "%b"}' % (b"x" * 256), "thread_id"),
        ("/assistants/search", b'{"limit": 0}', "limit"),
        ("/assistants/search", b'{"offset": -1}', "offset"),
        ("/assistants/search", b'{"sort_by": "; DROP TABLE threads"}', "sort_by"),
    ],
)
def test_a_bad_body_is_422_and_names_what_to_change(http, path, body, says):
    response = http.post(path, content=body, headers=JSON)
    assert response.status_code == 422, response.text
    assert says in response.json()["detail"]
    assert set(response.json()) == {"detail", "code"}


@pytest.mark.parametrize("path", ["/runs/wait", "/runs/stream", "/runs", "/assistants"])
def test_a_configuration_under_two_names_is_400(http, path):
    graph = {"graph_id": "agent", "assistant_id": None if path == "/assistants" else "agent"}
    body = {**graph, "config": {"configurable": {"a": 1}}, "context": {"b": 1}}
    response = http.post(path, json=body)
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert "Send context alone" in response.json()["detail"]


def test_a_body_that_is_not_called_json_is_told_so(http):
    response = http.post(
        "/chat", content=b'{"message":"hi"}', headers={"content-type": "text/plain"}
    )
    assert response.status_code == 415
    assert "Content-Type: application/json" in response.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/threads/{UNKNOWN}", 404),
        ("GET", f"/threads/{UNKNOWN}/state", 404),
        ("PATCH", f"/threads/{UNKNOWN}", 404),
        ("PATCH", "/threads/not-a-uuid", 422),
        ("DELETE", f"/threads/{UNKNOWN}", 404),
        ("DELETE", "/threads/not-a-uuid", 422),
        ("POST", f"/threads/{UNKNOWN}/copy", 409),
        ("GET", f"/threads/{UNKNOWN}/runs", 404),
        ("GET", "/threads/no-uuid-but-could-be-adopted", 422),
        ("GET", f"/threads/{'x' * 256}", 422),
        ("GET", "/threads/a%00b", 422),
        ("GET", f"/assistants/{UNKNOWN}", 404),
        ("GET", "/assistants/nope", 422),
        ("GET", "/assistants/a%00b", 422),
        ("GET", "/nope", 404),
        ("PUT", "/threads", 405),
        ("POST", f"/threads/{UNKNOWN}/runs/wait", 404),
        ("POST", "/threads/not-a-uuid/runs/wait", 404),
        ("POST", f"/threads/{UNKNOWN}/runs/stream", 404),
    ],
)
def test_what_is_not_there_is_said_in_the_same_form(http, method, path, status):
    response = http.request(method, path, json=RUN if method in ("POST", "PATCH") else None)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail", "code"}
    assert response.json()["detail"]


def test_a_malformed_run_id(http, thread_id):
    response = http.get(f"/threads/{thread_id}/runs/not-a-uuid")
    assert (response.status_code, response.json()["detail"]) == (
        422,
        "Invalid run ID: must be a UUID",
    )


def test_page_bounds(http, thread_id):
    for query in ("limit=-1", "limit=1001", "offset=-1", "limit=x", "status=weird"):
        assert http.get(f"/threads/{thread_id}/runs?{query}").status_code == 422


def test_a_new_thread_gets_a_uuid_through_the_api(http):
    response = http.post("/threads/one/runs/wait", json={**RUN, "if_not_exists": "create"})
    assert response.status_code == 422
    assert "must be a UUID" in response.json()["detail"]


def test_a_body_over_the_limit_is_413_announced_or_chunked(http):
    big = b'{"metadata": {"a": "' + b"x" * (8 * 1024 * 1024) + b'"}}'
    assert http.post("/threads", content=big, headers=JSON).status_code == 413

    def chunks():
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    response = http.post("/threads", content=chunks(), headers=JSON)
    assert response.status_code == 413
    assert response.json()["code"] == "payload_too_large"


def test_fields_of_newer_clients_are_ignored(http):
    assert http.post("/threads", json={"not_yet": 1}).status_code == 200
    assert http.post("/runs/wait", json={**RUN, "not_yet": {"x": 1}}).status_code == 200


def test_a_thread_survives_every_bad_run(http, thread_id):
    hello = {"messages": [{"role": "user", "content": "hi"}]}
    http.post(f"/threads/{thread_id}/runs/wait", json={"assistant_id": "agent", "input": hello})
    for body in ({"assistant_id": "nope"}, {"assistant_id": "agent", "input": "\0"}, {}):
        response = http.post(f"/threads/{thread_id}/runs/wait", json=body)
        assert response.status_code == 422
    thread = http.get(f"/threads/{thread_id}").json()
    assert thread["status"] == "idle"
    assert len(thread["values"]["messages"]) == 2


def test_an_input_the_graph_cannot_use_is_the_runs_error_not_the_servers(http, thread_id):
    for given in (None, 5, {"messages": 5}):
        response = http.post(
            f"/threads/{thread_id}/runs/wait", json={"assistant_id": "agent", "input": given}
        )
        assert response.status_code == 200
        assert response.json()["__error__"]["error"]
    assert http.get(f"/threads/{thread_id}").json()["status"] == "error"


def test_no_bad_request_left_a_busy_thread_or_a_running_run(http, module_server):
    with psycopg.connect(module_server.database_url) as connection:
        busy = connection.execute("SELECT count(*) FROM threads WHERE status = 'busy'").fetchone()
        running = connection.execute(
            "SELECT count(*) FROM runs WHERE status IN ('pending', 'running')"
        ).fetchone()
    assert (busy, running) == ((0,), (0,))


def test_every_answer_has_a_request_id(http):
    given = http.get("/ok", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    forged = http.get("/ok", headers={"x-request-id": "a b;c"})
    assert forged.headers["x-request-id"] != "a b;c"


def test_many_paths_are_one_series(http):
    for number in range(300):
        http.get(f"/scan/{number}")
    text = http.get("/metrics").text
    assert "/scan/" not in text
    assert 'route="__unmatched__"' in text
