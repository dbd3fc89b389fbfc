"""What a run has said, from the values that it has left: texts, calls for the client, tokens."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from headrace.chat.replies import entries_of, interrupts_of, message_of
from headrace.chat.schemas import ChatInterrupt
from headrace.chat.service import RunFailed
from headrace.checkpoints.tally import Tokens
from headrace.errors import InvalidRequest, RunForgotten
from headrace.following.followed_run import FollowedRun
from headrace.json_text import json_text
from headrace.queue.rows import RunOutcome
from headrace.usage.calls import counted_tokens

#: So many messages at the end of a state are looked through for those of the run.
_LAST = 1000


@dataclass(frozen=True, slots=True)
class CallOfTool:
    """A tool that the client must call. ``arguments`` is JSON text."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a run has said.

    :ivar texts: the text of each message, oldest first.
    :ivar calls: the tools that the last message calls, and that nobody in the graph has called.
    :ivar questions: what the graph waits for.
    :ivar tokens: of the run's messages, as far as their models have told them.
    """

    texts: Sequence[str] = ()
    calls: Sequence[CallOfTool] = ()
    questions: Sequence[ChatInterrupt] = ()
    tokens: Tokens = field(default_factory=Tokens)

    @property
    def text(self) -> str | None:
        """The last text; of a run that has said nothing, the question that it waits with."""
        if self.texts:
            return self.texts[-1]
        return question_text(self.questions) if self.questions else None


def reply_in(values: Any, sent: Collection[str]) -> Reply | None:
    """What the run has said; None if its values have no list of messages and no question.

    :param sent: the ids of the messages that the run got. Its own messages come after them.
    """
    questions = interrupts_of(values)
    found = _messages_after(values, sent)
    if found is None:
        return Reply(questions=questions) if questions else None
    spoken = [one for one in reversed(found) if isinstance(one, AIMessage)]
    texts = [text for one in spoken if (text := str(one.text))]
    last = found[0] if found else None
    if isinstance(last, ToolMessage):
        # A graph that ends with a tool replies with what the tool has said.
        texts.append(str(last.text))
    usages = [counted_tokens(one.usage_metadata) for one in spoken if one.usage_metadata]
    return Reply(
        texts=texts,
        calls=_open_calls(last),
        questions=questions,
        tokens=sum(usages, Tokens()),
    )


def reply_of_run(run: FollowedRun, outcome: RunOutcome, sent: Collection[str]) -> Reply:
    """What a run that has ended has said.

    :param sent: as :func:`reply_in`.
    :raises RunForgotten: an earlier request with this key created the run, and it is deleted.
    :raises RunFailed: the run failed; the message is the error of the graph.
    :raises InvalidRequest: the graph keeps no messages.
    """
    if outcome.forgotten:
        raise RunForgotten
    if outcome.error is not None:
        raise RunFailed(f"{outcome.error['error']}: {outcome.error['message']}")
    reply = reply_in(outcome.values, sent)
    if reply is None:
        raise no_messages(run.graph_id, "keeps no list of messages")
    return reply


def no_messages(graph_id: str, what: str) -> InvalidRequest:
    """The refusal of a graph that does not talk in messages."""
    return InvalidRequest(
        f"Graph '{graph_id}' {what}, which this protocol needs. Send its input to POST /runs/wait"
        f' with {{"assistant_id": "{graph_id}"}}.'
    )


def question_text(questions: Sequence[ChatInterrupt]) -> str:
    """Questions of a graph as a reply; several are separated by an empty line."""
    return "\n\n".join(
        one.value if isinstance(one.value, str) else json_text(one.value).decode()
        for one in questions
    )


def _messages_after(values: Any, sent: Collection[str]) -> list[BaseMessage] | None:
    """The messages of the run, newest first; None if the values have no list of messages."""
    entries = entries_of(values)
    if entries is None:
        return None
    found: list[BaseMessage] = []
    for one in reversed(entries[-_LAST:]):
        message = message_of(one)
        if message is None:
            continue
        if message.id in sent or message.type == "human":
            break
        found.append(message)
    return found


def _open_calls(last: BaseMessage | None) -> list[CallOfTool]:
    if not isinstance(last, AIMessage):
        return []
    return [
        CallOfTool(call["id"] or "", call["name"], json_text(call["args"]).decode())
        for call in last.tool_calls
    ]
