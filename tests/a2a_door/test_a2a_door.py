"""A2A, driven by the client of ``a2a-sdk`` as it is, in both versions of the protocol."""

from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    TaskState,
)
from a2a.utils.errors import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from google.protobuf.json_format import MessageToDict, ParseDict

from tests.support.doors import KEY, NO_CALLS

pytestmark = pytest.mark.acceptance


@asynccontextmanager
async def agent(server, graph: str, *, streaming: bool = False, version: str = "1.0"):
    """A client made from the agent's card."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(headers=headers, timeout=20) as http:
        card = await A2ACardResolver(http, f"{server.url}/a2a/{graph}").get_agent_card()
        kept = [one for one in card.supported_interfaces if one.protocol_version == version]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(kept)
        config = ClientConfig(httpx_client=http, streaming=streaming)
        yield ClientFactory(config).create(card)


def saying(text: str, **more: str) -> SendMessageRequest:
    message = Message(message_id=str(uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)], **more)
    return SendMessageRequest(message=message)


async def answers(client, request: SendMessageRequest) -> list:
    return [one async for one in client.send_message(request)]


async def task_of(client, request: SendMessageRequest):
    (answer,) = await answers(client, request)
    return answer.task


def text_of(task) -> str:
    return "".join(part.text for one in task.artifacts for part in one.parts)


@pytest.fixture
def http(doors_server):
    with httpx.Client(base_url=doors_server.url, headers={"x-api-key": KEY}) as http:
        yield http


def test_a_card_describes_the_assistant(http, doors_server):
    card = http.get("/.well-known/agent-card.json", params={"assistant_id": "speaks"}).json()
    assert card["name"] == "speaks"
    assert card["url"] == f"{doors_server.url}/a2a/speaks"
    assert [one["protocolVersion"] for one in card["supportedInterfaces"]] == ["1.0", "0.3"]
    assert card["capabilities"] == {"streaming": True, "pushNotifications": False}
    assert card["securitySchemes"]["key"]["apiKeySecurityScheme"]["name"] == "x-api-key"
    answer = http.get("/.well-known/agent-card.json")
    assert answer.json()["name"] == "speaks"
    kept = {"If-None-Match": answer.headers["etag"]}
    assert http.get("/.well-known/agent-card.json", headers=kept).status_code == 304
    assert http.get("/a2a/nobody/.well-known/agent-card.json").status_code == 404
    assert httpx.get(f"{doors_server.url}/.well-known/agent-card.json").status_code == 401


@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_a_message_is_a_task_with_the_reply(doors_server, version):
    async with agent(doors_server, "speaks", version=version) as client:
        task = await task_of(client, saying("hello there"))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert text_of(task) == "You said hello there"
        assert [one.parts[0].text for one in task.history] == ["hello there"]
        again = await client.get_task(GetTaskRequest(id=task.id))
        assert (again.id, again.context_id) == (task.id, task.context_id)
        assert again.status.state == TaskState.TASK_STATE_COMPLETED
        assert text_of(again) == "You said hello there"
        assert again.history[0].message_id == task.history[0].message_id
        short = await client.get_task(GetTaskRequest(id=task.id, history_length=0))
        assert list(short.history) == []


async def test_a_context_keeps_the_conversation(doors_server):
    async with agent(doors_server, "counts") as client:
        first = await task_of(client, saying("one"))
        second = await task_of(client, saying("two", context_id=first.context_id))
        assert second.context_id == first.context_id
        assert second.id != first.id
        assert text_of(second) == "human:one ai:human:one human:two"
        # Each task keeps its own reply.
        assert text_of(await client.get_task(GetTaskRequest(id=first.id))) == "human:one"


@pytest.mark.parametrize("version", ["1.0", "0.3"])
async def test_a_stream_tells_the_task_its_pieces_and_its_end(doors_server, version):
    async with agent(doors_server, "looks", streaming=True, version=version) as client:
        told = await answers(client, saying("hi"))
        assert told[0].HasField("task")
        states = [one.status_update.status.state for one in told if one.HasField("status_update")]
        assert states == [TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED]
        pieces = [one.artifact_update for one in told if one.HasField("artifact_update")]
        said: dict[str, str] = {}
        for one in pieces:
            before = said.get(one.artifact.artifact_id, "") if one.append else ""
            said[one.artifact.artifact_id] = before + one.artifact.parts[0].text
        assert list(said.values()) == ["Let me look.", "It is cold"]
        task = await client.get_task(GetTaskRequest(id=told[0].task.id))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_question_is_answered_within_its_task(doors_server, streaming):
    async with agent(doors_server, "asks", streaming=streaming) as client:
        told = await answers(client, saying("mail bob"))
        asked = told[0].task
        waiting = await client.get_task(GetTaskRequest(id=asked.id))
        assert waiting.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
        assert waiting.status.message.parts[0].text == "Send it?"
        answer = saying("yes", task_id=asked.id, context_id=waiting.context_id)
        after = (await answers(client, answer))[0].task
        assert after.id == asked.id
        done = await client.get_task(GetTaskRequest(id=asked.id))
        assert done.status.state == TaskState.TASK_STATE_COMPLETED
        assert text_of(done) == "Sent, for you said yes"
        with pytest.raises(UnsupportedOperationError, match="waits for no message"):
            await answers(client, saying("more", task_id=asked.id))


async def test_a_task_that_goes_on_is_stopped(doors_server):
    async with agent(doors_server, "waits") as client:
        request = saying("hi")
        request.configuration.return_immediately = True
        task = await task_of(client, request)
        assert task.status.state == TaskState.TASK_STATE_SUBMITTED
        stopped = await client.cancel_task(CancelTaskRequest(id=task.id))
        assert stopped.status.state == TaskState.TASK_STATE_CANCELED
        again = await client.get_task(GetTaskRequest(id=task.id))
        assert again.status.state == TaskState.TASK_STATE_CANCELED
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(CancelTaskRequest(id=task.id))


async def test_a_graph_without_messages_takes_data(doors_server):
    async with agent(doors_server, "topics") as client:
        part = ParseDict({"data": {"topic": "tea"}}, Part())
        message = Message(message_id="m", role=Role.ROLE_USER, parts=[part])
        task = await task_of(client, SendMessageRequest(message=message))
        (part,) = task.artifacts[0].parts
        assert MessageToDict(part)["data"] == {"topic": "tea", "answer": "All about tea"}
        with pytest.raises(InvalidParamsError, match="takes no messages"):
            await answers(client, saying("tea"))


async def test_a_run_that_fails_is_a_failed_task(doors_server):
    async with agent(doors_server, "fails") as client:
        task = await task_of(client, saying("hi"))
        assert task.status.state == TaskState.TASK_STATE_FAILED
        assert task.status.message.parts[0].text == "ValueError: kaboom in node"


async def test_errors_are_those_of_the_protocol(doors_server, http):
    async with agent(doors_server, "speaks") as client:
        for unknown in (str(uuid4()), "no-task"):
            with pytest.raises(TaskNotFoundError):
                await client.get_task(GetTaskRequest(id=unknown))
        message = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(url="http://x/a.png")])
        with pytest.raises(ContentTypeNotSupportedError):
            await answers(client, SendMessageRequest(message=message))
        other = await task_of(client, saying("hi"))
    async with agent(doors_server, "counts") as client:
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id=other.id))

    def code(body, **headers) -> int:
        found: int = http.post("/a2a/speaks", json=body, headers=headers).json()["error"]["code"]
        return found

    call = {"jsonrpc": "2.0", "id": 1}
    assert code({**call, "method": "message/send", "params": {}}) == -32602
    assert code({**call, "method": "nothing/there"}) == -32601
    assert code({**call, "method": "ListTasks"}) == -32004
    assert code({**call, "method": "agent/getAuthenticatedExtendedCard"}) == -32004
    assert code({**call, "method": "tasks/pushNotificationConfig/set"}) == -32003
    assert code({**call, "method": "GetTask"}, **{"a2a-version": "9.0"}) == -32009
    assert code({"id": 1}) == -32600
    answer = http.post("/a2a/nobody", json={**call, "method": "message/send", "params": {}})
    assert answer.json()["error"]["code"] == -32602


TEXT = {"kind": "text", "text": "hi"}


@pytest.mark.parametrize(
    ("part", "configuration", "number", "sentence"),
    [
        ({**TEXT, "file": {"uri": "http://x/a.png"}}, {}, -32005, "parts.0: this agent takes text"),
        ({**TEXT, "data": {"a": 1}}, {}, -32602, "parts.0: send text and data as two parts"),
        (TEXT, {"returnImmediately": "false"}, -32602, "configuration.returnImmediately: send"),
        (TEXT, {"blocking": "no"}, -32602, "configuration.blocking: send true or false"),
    ],
)
def test_what_would_be_dropped_or_misread_is_refused(http, part, configuration, number, sentence):
    message = {"messageId": "m", "role": "user", "parts": [part]}
    params = {"message": message, "configuration": configuration}
    call = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": params}
    told = http.post("/a2a/speaks", json=call).json()["error"]
    assert (told["code"], sentence in told["message"]) == (number, True)


@pytest.mark.parametrize(("body", "number"), NO_CALLS)
def test_a_body_that_is_no_call_is_told_as_such(http, body, number):
    answer = http.post("/a2a/speaks", content=body, headers={"content-type": "application/json"})
    told = answer.json()
    assert (told["jsonrpc"], told["id"], told["error"]["code"]) == ("2.0", None, number)


def test_a_body_of_another_type_is_told_as_such(http):
    answer = http.post("/a2a/speaks", content=b"{}", headers={"content-type": "text/plain"})
    told = answer.json()["error"]
    assert told["code"] == -32600
    assert "Content-Type: application/json" in told["message"]
