"""Long conversations, made as fast as the saver takes them.

Every checkpoint is made by the graph itself (``aupdate_state``), so what a turn later finds is what
turns would have left: a stored list now and then, and the writes since. A conversation begins with
half of its messages in one write, after which the graph would have stored the list in any case; the
other half comes a few messages at a time.
"""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.graph.state import CompiledStateGraph
from langgraph.store.memory import InMemoryStore

from loadtests.bench.contenders import headrace
from loadtests.bench.drive import thread_config
from loadtests.bench.growth import message
from loadtests.growth.graphs import chat, messages_state

#: Messages of one write of the second half.
_PIECE = 8
#: Turns of a conversation that a few more would change.
_SHORT = 300

_BUILDERS = {"chat": chat, "messages_state": messages_state}


def messages(first: int, count: int) -> list[BaseMessage]:
    """``count`` messages of 200 bytes, of a user and an assistant in turn."""
    return [
        (AIMessage if number % 2 else HumanMessage)(content=message(number), id=str(uuid4()))
        for number in range(first, first + count)
    ]


async def build_threads(
    url: str, graph: str, lengths: Sequence[int], *, rounds: int, at_once: bool = False
) -> dict[int, list[str]]:
    """Threads of ``graph`` with so many turns, by length: their ids.

    A long conversation is measured again and again, a short one would grow: of those there is one
    for each round.

    :param at_once: in a single write. For a graph whose every checkpoint has the whole list.
    """
    made: dict[int, list[str]] = {}
    async with headrace().open(url) as contender:
        compiled: CompiledStateGraph[Any, Any, Any, Any] = _BUILDERS[graph]().compile(
            checkpointer=contender.saver, store=InMemoryStore()
        )
        for turns in [one for one in lengths for _ in range(rounds if one <= _SHORT else 1)]:
            thread_id = str(uuid4())
            made.setdefault(turns, []).append(thread_id)
            config = thread_config(thread_id)
            first = 2 * turns if at_once else turns
            for start, count in [
                (0, first),
                *((at, min(_PIECE, 2 * turns - at)) for at in range(first, 2 * turns, _PIECE)),
            ]:
                await compiled.aupdate_state(
                    config, {"messages": messages(start, count)}, as_node="call_model"
                )
    return made
