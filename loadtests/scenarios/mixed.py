"""A front end of everything: for each run there are several reads, as people look more than ask.

About one request in seven makes a run.
"""

import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from loadtests.common.api import TEST, Api, Journey, WrongReply, require
from loadtests.common.events import Event, spoken
from loadtests.scenarios import agent as agents
from loadtests.scenarios.agent import Question
from loadtests.scenarios.background import background
from loadtests.scenarios.chat import script
from loadtests.scenarios.resume import resume
from loadtests.scenarios.stream import rejoin, stream

_READS = 8


def visit(api: Api) -> None:
    """Two questions on a thread, and all that a page shows of it after each."""
    thread_id = api.new_thread()
    asked = agents.question(1, 0)
    agents.stream(api, thread_id, asked)
    _look(api, thread_id, asked, runs=1)
    asked = agents.question(2, asked.messages)
    agents.wait(api, thread_id, asked)
    _look(api, thread_id, asked, runs=2)


def _look(api: Api, thread_id: str, asked: Question, *, runs: int) -> None:
    for read in random.choices(_LOOKS, k=_READS):
        read(api, thread_id, asked, runs)


def _thread(api: Api, thread_id: str, asked: Question, runs: int) -> None:
    def check(thread: Any) -> None:
        require(thread["thread_id"], thread_id, "another thread")
        agents.require_answered(thread["values"]["messages"], asked)

    api.ask("GET", f"/threads/{thread_id}", name="/threads/{id}", check=check)


def _state(api: Api, thread_id: str, asked: Question, runs: int) -> None:
    agents.read_state(api, thread_id, asked)


def _history(api: Api, thread_id: str, asked: Question, runs: int) -> None:
    def check(states: Any) -> None:
        require(len(states), 2, "states of a page")
        agents.require_answered(states[0]["values"]["messages"], asked)

    path = f"/threads/{thread_id}/history"
    api.ask("POST", path, {"limit": 2}, name="/threads/{id}/history", check=check)


def _runs(api: Api, thread_id: str, asked: Question, runs: int) -> None:
    api.ask(
        "GET",
        f"/threads/{thread_id}/runs?limit=10",
        name="/runs of a thread",
        check=lambda found: require(
            [one["status"] for one in found], ["success"] * runs, "runs of the thread"
        ),
    )


def _list(api: Api, thread_id: str, asked: Question, runs: int) -> None:
    def check(threads: Any) -> None:
        require(len(threads) > 0, True, "threads are listed")
        if any(one["metadata"].get("load") != TEST for one in threads):
            raise WrongReply("a thread of another test is listed")

    body = {
        "metadata": {"load": TEST},
        "limit": 10,
        "sort_by": "created_at",
        "select": ["thread_id", "metadata", "status", "updated_at"],
    }
    api.ask("POST", "/threads/search", body, name="/threads/search", check=check)


def _assistants(api: Api, thread_id: str, asked: Question, runs: int) -> None:
    api.ask(
        "POST",
        "/assistants/search",
        {"graph_id": "agent", "limit": 1},
        name="/assistants/search",
        check=lambda found: require(found[0]["graph_id"], "agent", "graph of the assistant"),
    )


_LOOKS: list[Callable[[Api, str, Question, int], None]] = [
    _thread,
    _thread,
    _state,
    _state,
    _runs,
    _history,
    _list,
    _assistants,
]


def remember(api: Api) -> None:
    """An item of the store: put, got, changed, found, deleted."""
    namespace, word = ["load", TEST, uuid.uuid4().hex], uuid.uuid4().hex

    def item(wanted: str) -> Callable[[Any], None]:
        return lambda found: require(found["value"], {"word": wanted}, "value of the item")

    read = f"/store/items?namespace={'.'.join(namespace)}&key=note"
    for value in (word, word[::-1]):
        body = {"namespace": namespace, "key": "note", "value": {"word": value}}
        api.ask("PUT", "/store/items", body, name="/store/items")
        api.ask("GET", read, name="/store/items", check=item(value))
    api.ask(
        "POST",
        "/store/items/search",
        {"namespace_prefix": namespace, "limit": 5},
        name="/store/items/search",
        check=lambda found: item(word[::-1])(found["items"][0]),
    )
    body = {"namespace": namespace, "key": "note"}
    api.ask("DELETE", "/store/items", body, name="/store/items")


def chat(api: Api) -> None:
    """The first turns of a conversation over ``/chat``, the last one streamed."""
    person = uuid.uuid4().hex
    turns = script(f"Ada{person[:6]}", f"my lucky number is {person}")[:3]
    thread_id = str(uuid.uuid4())
    for turn in turns[:-1]:
        body = {"message": turn.message, "thread_id": thread_id}
        api.ask("POST", "/chat", body, name="/chat", check=_replies(turn.reply))
    last = turns[-1]

    def check(events: Sequence[Event]) -> None:
        require(spoken(events), last.reply, f"wrong reply to '{last.message}'")

    body = {"message": last.message, "thread_id": thread_id}
    api.stream("/chat/stream", body, name="/chat/stream", check=check)


def _replies(reply: str) -> Callable[[Any], None]:
    return lambda answer: require(answer["reply"], reply, "wrong reply")


def stateless(api: Api) -> None:
    """A run without a thread."""
    word = uuid.uuid4().hex
    api.ask(
        "POST",
        "/runs/wait",
        {"assistant_id": "sleeper", "input": {"word": word}},
        name="/runs/wait stateless",
        check=lambda values: require(values["said"], word, "what was said"),
    )


JOURNEYS: list[tuple[Journey, int]] = [
    (visit, 8),
    (remember, 3),
    (stateless, 2),
    (stream, 1),
    (rejoin, 1),
    (background, 1),
    (resume, 1),
    (chat, 1),
]
