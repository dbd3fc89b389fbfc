"""The OpenAI-shaped API, driven by the ``openai`` package as it is."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from tests.support.doors import KEY, NO_CALLS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.acceptance

HELLO: Any = [{"role": "user", "content": "hello there"}]
CALL: Any = {"id": "call-1", "type": "function", "function": {"name": "x", "arguments": "{}"}}


@pytest.fixture(scope="module")
def client(doors_server):
    with openai.OpenAI(base_url=f"{doors_server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def http(doors_server):
    with httpx.Client(base_url=doors_server.url, headers={"x-api-key": KEY}) as http:
        yield http


def extra_of(answer: Any) -> Any:
    return answer.model_extra["headrace"]


def told_of(error: Any) -> Any:
    """The ``error`` of a refusal."""
    return error.value.body


def test_models_are_graphs_and_assistants(client, http):
    body = {"graph_id": "tones", "name": "Warm", "context": {"temperature": 0.5}}
    made = http.post("/assistants", json=body).json()["assistant_id"]
    models = {model.id: model for model in client.models.list()}
    assert {"speaks", "calls", "fails", made} <= set(models)
    assert models[made].model_extra["name"] == "Warm"
    assert client.models.retrieve("speaks").owned_by == "headrace"
    with pytest.raises(openai.NotFoundError) as said:
        client.models.retrieve("gpt-4o")
    assert said.value.code == "model_not_found"
    reply = client.chat.completions.create(model=made, messages=HELLO)
    assert reply.choices[0].message.content == "0.5 nobody"


def test_a_completion_is_the_reply_of_the_graph(client, http):
    before = http.post("/threads/count", json={}).json()
    reply = client.chat.completions.create(model="speaks", messages=HELLO)
    (choice,) = reply.choices
    assert choice.message.content == "You said hello there"
    assert (choice.message.role, choice.finish_reason) == ("assistant", "stop")
    assert choice.message.tool_calls is None
    assert reply.id.startswith("chatcmpl-")
    assert (reply.model, reply.object) == ("speaks", "chat.completion")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (10, 5)
    assert reply.usage.total_tokens == 15
    # Nothing of a conversation without a thread stays.
    assert extra_of(reply)["thread_id"] is None
    wait_until(lambda: http.post("/threads/count", json={}).json() == before)


def test_a_stream_brings_the_words_as_they_are_said(client):
    with client.chat.completions.create(
        model="speaks", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert [one.content for one in deltas if one.content] == ["You", " said", " hello", " there"]
    assert deltas[0].role == "assistant"
    assert [one.choices[0].finish_reason for one in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 15
    assert len({chunk.id for chunk in chunks}) == 1


def test_each_chunk_has_the_usage_that_was_asked_for(client):
    usages = {}
    for model in ("speaks", "counts"):
        with client.chat.completions.create(
            model=model, messages=HELLO, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = [chunk.to_dict() for chunk in stream]
        assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert chunks[-1]["choices"] == []
        usages[model] = chunks[-1]["usage"]
    assert usages["speaks"]["total_tokens"] == 15
    # A model that tells no tokens counts as zero, in all forms of the answer.
    whole = client.chat.completions.create(model="counts", messages=HELLO)
    assert whole.usage.to_dict() == usages["counts"]
    assert whole.usage.total_tokens == 0
    assert client.responses.create(model="counts", input="hi").usage.total_tokens == 0
    with client.chat.completions.create(model="counts", messages=HELLO, stream=True) as stream:
        assert not any("usage" in chunk.to_dict() for chunk in stream)


async def test_the_asynchronous_client_streams_and_waits(doors_server):
    url = f"{doors_server.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        plain = client.chat.completions.create(model="speaks", messages=HELLO)
        stream: Any = await client.chat.completions.create(
            model="speaks", messages=HELLO, stream=True
        )
        said = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(said) == (await plain).choices[0].message.content == "You said hello there"


def test_a_call_for_the_client_comes_back_and_its_result_goes_in(client):
    asked = [{"role": "user", "content": "How is it in Oslo?"}]
    reply = client.chat.completions.create(model="calls", messages=asked)
    (choice,) = reply.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.id, call.type, call.function.name) == ("call-1", "function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    again = client.chat.completions.create(model="calls", messages=[*asked, choice.message, result])
    assert again.choices[0].message.content == "It is sunny"
    assert again.choices[0].finish_reason == "stop"


def test_a_tool_may_bring_an_empty_text(client):
    result = {"role": "tool", "tool_call_id": "call-1", "content": ""}
    sent = [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, result]
    reply = client.chat.completions.create(model="counts", messages=sent)
    assert reply.choices[0].message.content == "human:hello there ai: tool:"


def test_a_stream_brings_the_call_for_the_client(client):
    with client.chat.completions.stream(model="calls", messages=HELLO) as stream:
        whole = stream.get_final_completion()
    (choice,) = whole.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert (call.id, call.function.name) == ("call-1", "weather")
    assert json.loads(call.function.arguments) == {"city": "Oslo"}


def test_a_call_that_the_graph_makes_itself_is_no_call_for_the_client(client):
    reply = client.chat.completions.create(model="looks", messages=HELLO)
    assert reply.choices[0].message.content == "It is cold"
    assert reply.choices[0].message.tool_calls is None
    assert reply.usage.total_tokens == 45
    with client.chat.completions.create(model="looks", messages=HELLO, stream=True) as stream:
        chunks = list(stream)
    assert [one.choices[0].delta.tool_calls for one in chunks] == [None] * len(chunks)
    said = "".join(one.choices[0].delta.content or "" for one in chunks)
    assert said == "Let me look.\n\nIt is cold"


def test_a_thread_keeps_the_conversation(client, http):
    thread = f"door-{uuid4()}"
    first = client.chat.completions.create(
        model="counts", messages=HELLO, metadata={"thread_id": thread, "topic": "greeting"}
    )
    assert extra_of(first)["thread_id"] == thread
    second = client.chat.completions.create(
        model="counts",
        messages=[{"role": "user", "content": "again"}],
        metadata={"thread_id": thread},
    )
    assert second.choices[0].message.content == (
        "human:hello there ai:human:hello there human:again"
    )
    run_id = extra_of(first)["run_id"]
    run = http.get(f"/threads/{thread}/runs/{run_id}").json()
    assert run["metadata"]["topic"] == "greeting"
    assert "thread_id" not in run["metadata"]


def test_the_user_and_known_parameters_reach_the_graph(client):
    reply = client.chat.completions.create(
        model="tones", messages=HELLO, user="ada", temperature=0.2
    )
    assert reply.choices[0].message.content == "0.2 ada"


def test_a_usual_value_reaches_the_graph_that_has_another_default(client, http):
    body = {"graph_id": "tones", "context": {"temperature": 0.5}}
    made = http.post("/assistants", json=body).json()["assistant_id"]
    reply = client.chat.completions.create(model=made, messages=HELLO, temperature=1)
    assert reply.choices[0].message.content == "1 nobody"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"n": 2}, "n: a run makes one reply"),
        ({"logprobs": True}, "logprobs: replies have none"),
        ({"response_format": {"type": "json_object"}}, "response_format: the context schema of"),
        ({"temperature": 0.2}, "temperature: the context schema of graph 'speaks'"),
        ({"store": True}, "store: metadata.thread_id"),
        ({"temperature": 0}, "temperature: the context schema of graph 'speaks'"),
        ({"presence_penalty": 0.1}, "presence_penalty: the context schema"),
        ({"stop": ["x"]}, "stop: the context schema"),
        ({"logit_bias": {"7": 1}}, "logit_bias: the context schema"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls: the context schema"),
        ({"tool_choice": "required"}, "tool_choice: the context schema"),
        ({"functions": [{"name": "x"}]}, "functions: send tools"),
        ({"web_search_options": {}}, "web_search_options: the context schema"),
        ({"extra_body": {"n": True}}, "n: a run makes one reply"),
        ({"extra_body": {"prompt_cache_options": {"prewarm": True}}}, "prompt_cache_options: "),
        ({"extra_body": {"new_thing": 1}}, "new_thing: the context schema"),
        ({"metadata": {"thread_id": "a/b"}}, "no slash"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools: the context"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "tool_call_id"),
        ({"messages": [{"role": "tool", "tool_call_id": "x"}]}, "messages.0.content"),
        ({"messages": [{**HELLO[0], "tool_call_id": "x"}]}, "messages.0.tool_call_id: only"),
        ({"messages": [{**HELLO[0], "tool_calls": [CALL]}]}, "messages.0.tool_calls: only"),
    ],
)
def test_what_would_have_no_effect_is_refused_with_a_sentence(client, more, sentence):
    with pytest.raises(openai.BadRequestError) as said:
        client.chat.completions.create(**{"model": "speaks", "messages": HELLO, **more})
    assert sentence in told_of(said)["message"]
    assert told_of(said)["type"] == "invalid_request_error"
    assert said.value.code == "invalid_request"


#: OpenAI's defaults of the parameters that both endpoints have, and hints to its caches.
USUAL: dict[str, Any] = {
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": "x",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "x",
    "service_tier": "auto",
    "stream": False,
    "stream_options": {"include_obfuscation": False},
    "temperature": 1,
    "tool_choice": "none",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
}
USUAL_OF_COMPLETIONS = {
    **USUAL,
    "frequency_penalty": 0,
    "function_call": "none",
    "functions": [],
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "n": 1,
    "presence_penalty": 0.0,
    "response_format": {"type": "text"},
    "stop": [],
    "store": False,
    "verbosity": "medium",
}
USUAL_OF_RESPONSES = {
    **USUAL,
    "access_programs": {"cyber": "standard"},
    "background": False,
    "background_options": {"completion_window": "soonest"},
    "context_management": [],
    "image": {"context_compression": "auto"},
    "include": [],
    "prompt_cache_options": {"prewarm": False, "comparison_response_id": None},
    "reasoning": {"context": "auto", "effort": None, "summary": None},
    "store": True,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "truncation": "disabled",
}


def nulls_of(parameters: Any, *needed: str) -> dict[str, None]:
    """Null for all parameters of an endpoint, as the package has them, but those that it needs."""
    return dict.fromkeys(parameters.__annotations__.keys() - set(needed))


@pytest.mark.parametrize(
    "usual",
    [USUAL_OF_COMPLETIONS, nulls_of(CompletionCreateParamsStreaming, "model", "messages")],
    ids=["defaults", "nulls"],
)
def test_what_happens_anyway_may_be_asked_of_a_completion(client, usual):
    reply = client.chat.completions.create(model="speaks", messages=HELLO, extra_body=usual)
    assert reply.choices[0].message.content == "You said hello there"


@pytest.mark.parametrize(
    "usual",
    [USUAL_OF_RESPONSES, nulls_of(ResponseCreateParamsStreaming, "model", "input")],
    ids=["defaults", "nulls"],
)
def test_what_happens_anyway_may_be_asked_of_a_response(client, usual):
    reply = client.responses.create(model="speaks", input="hello there", extra_body=usual)
    assert reply.output_text == "You said hello there"


def test_the_defaults_are_parameters_of_the_package():
    assert not USUAL_OF_COMPLETIONS.keys() - CompletionCreateParamsStreaming.__annotations__.keys()
    assert not USUAL_OF_RESPONSES.keys() - ResponseCreateParamsStreaming.__annotations__.keys()


def test_a_graph_without_messages_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="'topics' takes topic, answer and no mess"):
        client.chat.completions.create(model="topics", messages=HELLO)


def test_a_question_of_the_graph_is_told(client):
    reply = client.chat.completions.create(model="asks", messages=HELLO)
    assert reply.choices[0].message.content == "Send it?"
    assert [one["value"] for one in extra_of(reply)["interrupts"]] == ["Send it?"]
    with client.chat.completions.create(model="asks", messages=HELLO, stream=True) as stream:
        chunks = list(stream)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == "Send it?"


def test_a_failed_run_is_an_error_and_is_not_run_again(doors_server):
    seen = []
    with (
        httpx.Client() as plain,
        openai.OpenAI(base_url=f"{doors_server.url}/v1", api_key=KEY) as client,
    ):
        with pytest.raises(openai.InternalServerError) as said:
            client.chat.completions.create(model="fails", messages=HELLO)
        assert told_of(said)["message"] == "ValueError: kaboom in node"
        assert said.value.code == "run_failed"
        assert said.value.response.headers["x-should-retry"] == "false"
        assert said.value.response.request.headers["x-stainless-retry-count"] == "0"
        stream = client.chat.completions.create(model="fails", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="kaboom in node"):
            seen += list(stream)
        assert plain.get(f"{doors_server.url}/ok").status_code == 200
    assert seen == []


def test_strangers_are_refused_as_openai_does(doors_server):
    with (
        openai.OpenAI(base_url=f"{doors_server.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as said,
    ):
        client.chat.completions.create(model="speaks", messages=HELLO)
    assert told_of(said)["type"] == "authentication_error"
    assert said.value.code == "unauthenticated"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("body", [body for body, _ in NO_CALLS])
def test_a_body_that_is_no_request_is_refused_as_openai_does(http, path, body):
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    told = answer.json()["error"]
    assert (answer.status_code, told["type"], told["param"]) == (400, "invalid_request_error", None)
    assert told["code"] in ("invalid_request", "malformed_json")
    assert told["message"]


def test_an_idempotency_key_makes_one_run(client, http):
    thread, key = f"door-{uuid4()}", str(uuid4())
    answers = [
        client.chat.completions.create(
            model="counts",
            messages=HELLO,
            metadata={"thread_id": thread},
            extra_headers={"Idempotency-Key": key},
        )
        for _ in range(2)
    ]
    assert answers[0].id == answers[1].id
    assert answers[1].choices[0].message.content == "human:hello there"
    assert len(http.get(f"/threads/{thread}/runs").json()) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_without_a_thread_stops_when_its_client_leaves(doors_server, stream):
    url = doors_server.url

    def running() -> float:
        lines = httpx.get(f"{url}/metrics", headers={"x-api-key": KEY}).text.splitlines()
        (told,) = [one for one in lines if one.startswith("headrace_runs_running ")]
        return float(told.split()[1])

    body = {"model": "waits", "messages": HELLO, "stream": stream}
    async with httpx.AsyncClient(base_url=url, headers={"x-api-key": KEY}) as http:
        sending = asyncio.create_task(http.post("/v1/chat/completions", json=body))
        await asyncio.to_thread(wait_until, lambda: running() == 1)
        sending.cancel()
        await asyncio.to_thread(wait_until, lambda: running() == 0)


def test_a_response_is_the_reply_of_the_graph(client):
    response = client.responses.create(model="speaks", input="hello there", user="ada")
    assert response.output_text == "You said hello there"
    assert (response.status, response.object) == ("completed", "response")
    assert response.id.startswith("resp_")
    assert response.usage.total_tokens == 15
    assert response.error is None


def test_a_response_goes_on_from_the_last_one(client):
    first = client.responses.create(model="counts", input="one", instructions="Be brief.")
    second = client.responses.create(
        model="counts", input="two", previous_response_id=first.id, instructions="Be long."
    )
    said = "system:Be brief. human:one"
    assert first.output_text == said
    # Instructions take the place of earlier ones.
    assert second.output_text == f"system:Be long. human:one ai:{said} human:two"
    with pytest.raises(openai.ConflictError) as refused:
        client.responses.create(model="counts", input="three", previous_response_id=first.id)
    assert refused.value.code == "not_the_last_response"


def test_a_response_that_is_not_kept_cannot_be_gone_on_from(client, http):
    first = client.responses.create(model="speaks", input="one", store=False)
    assert extra_of(first)["thread_id"] is None
    for gone in (first.id, "resp_x", f"resp_{uuid4().hex}"):
        with pytest.raises(openai.NotFoundError) as refused:
            client.responses.create(model="speaks", input="two", previous_response_id=gone)
        assert refused.value.code == "response_not_found"


def test_items_of_a_response_go_back_in(client):
    asked = [{"role": "user", "content": [{"type": "input_text", "text": "Oslo?"}]}]
    first = client.responses.create(model="calls", input=asked, store=False)
    (item,) = first.output
    assert (item.type, item.call_id, item.name) == ("function_call", "call-1", "weather")
    assert json.loads(item.arguments) == {"city": "Oslo"}
    result = {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
    second = client.responses.create(
        model="calls", input=[*asked, *first.output, result], store=False
    )
    assert second.output_text == "It is sunny"


def test_a_streamed_response_is_told_event_by_event(client):
    with client.responses.create(model="looks", input="hi", stream=True) as stream:
        events = list(stream)
    assert [one.sequence_number for one in events] == list(range(len(events)))
    kinds = [one.type for one in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    texts = [one.text for one in events if one.type == "response.output_text.done"]
    assert texts == ["Let me look.", "It is cold"]
    deltas = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    assert deltas == "".join(texts)
    whole = events[-1].response
    assert [item.content[0].text for item in whole.output] == texts
    assert whole.usage.total_tokens == 45


def test_the_helper_of_streams_gathers_a_call(client):
    with client.responses.stream(model="calls", input="hi") as stream:
        for _ in stream:
            pass
        whole = stream.get_final_response()
    (item,) = whole.output
    assert (item.type, item.name, json.loads(item.arguments)) == (
        "function_call",
        "weather",
        {"city": "Oslo"},
    )


def test_a_streamed_response_that_fails_says_so(client):
    with client.responses.create(model="fails", input="hi", stream=True) as stream:
        last = list(stream)[-1]
    assert last.type == "response.failed"
    assert last.response.error.message == "ValueError: kaboom in node"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"background": True}, "background"),
        ({"reasoning": {"effort": "low"}}, "reasoning: the context schema"),
        ({"text": {"verbosity": "low"}}, "text: the context schema"),
        ({"truncation": "auto"}, "truncation: the context schema"),
        ({"conversation": "c1"}, "conversation: name a thread"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "items of type 'reasoning'"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input_text"),
        ({"store": False, "metadata": {"thread_id": "t"}}, "store: false keeps no"),
        ({"previous_response_id": "resp_1", "metadata": {"thread_id": "t"}}, "both name"),
    ],
)
def test_what_a_response_cannot_honour_is_refused(client, more, sentence):
    with pytest.raises(openai.BadRequestError) as said:
        client.responses.create(**{"model": "speaks", "input": "hi", **more})
    assert sentence in told_of(said)["message"]
