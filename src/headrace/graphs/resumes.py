"""What a strict resume must answer: interrupts that wait, each by its id, or the only one."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Interrupt, StateSnapshot

from headrace.errors import ResumeRefused

#: LangGraph takes an object for a map of answers if all its keys have this form.
_INTERRUPT_ID = re.compile("[0-9a-f]{32}")
#: The refusal where no interrupt waits.
NOTHING_ASKED = (
    "command.resume: no interrupt waits for an answer here; send an input to start a turn."
)
#: A refusal names at most so many ids of each kind.
_NAMED = 20


def refuse_resume(resume: Any, waiting: StateSnapshot) -> None:
    """Refuse a resume that does not say which interrupts it answers, or names others.

    :param waiting: the state that the run goes on from. If it was read by a checkpoint's id, its
        answered interrupts count too: a run from there asks them again.
    :raises ResumeRefused: the message names the interrupts that wait, and their nodes.
    """
    pending = _pending(waiting)
    if not pending:
        raise ResumeRefused(_nothing_asked(waiting.next))
    if not is_map(resume):
        if len(pending) > 1:
            raise ResumeRefused(
                "command.resume: several interrupts wait, and one value does not say which it"
                f" answers; send an object of answers by interrupt id. {_told(pending)}"
            )
        return
    _refuse_unknown(resume, pending)


def refuse_unknown_answers(resume: Any, asked: StateSnapshot) -> None:
    """Refuse answers to interrupts that were never raised where the run goes on.

    For a run whose earlier attempt may have used some of the answers already.

    :param asked: the state that the run goes on from, read by its checkpoint's id.
    :raises ResumeRefused: as :func:`refuse_resume`.
    """
    if is_map(resume):
        _refuse_unknown(resume, _pending(asked))


def is_map(resume: Any) -> bool:
    """Whether LangGraph takes this for answers by interrupt id, not for one answer."""
    return isinstance(resume, Mapping) and all(map(_INTERRUPT_ID.fullmatch, resume))


def start_of(configurable: Mapping[str, Any]) -> RunnableConfig:
    """The configuration that leads to the thread's own checkpoint, also for a run that starts from
    a checkpoint of a subgraph.
    """
    by_namespace = configurable.get("checkpoint_map") or {}
    checkpoint_id = by_namespace.get("") or configurable.get("checkpoint_id")
    named = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    thread_id = configurable["thread_id"]
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", **named}}


def _pending(snapshot: StateSnapshot) -> dict[str, str]:
    """The node of each interrupt, by the id of the interrupt."""
    return {
        one.id: task.name
        for task in snapshot.tasks
        for one in task.interrupts
        if isinstance(one, Interrupt)
    }


def _refuse_unknown(resume: Collection[str], pending: Mapping[str, str]) -> None:
    if unknown := [key for key in resume if key not in pending]:
        named = ", ".join(unknown[:_NAMED])
        raise ResumeRefused(
            f"command.resume: no interrupt with this id waits for an answer: {named}."
            f" {_told(pending)}"
        )


def _nothing_asked(following: Sequence[str]) -> str:
    if following:
        return (
            "command.resume: no interrupt waits for an answer; the thread stands before"
            f" {', '.join(following)}. Send input: null without a command to go on."
        )
    return NOTHING_ASKED


def _told(pending: Mapping[str, str]) -> str:
    if not pending:
        return "No interrupt waits."
    shown = [f"{key} (node {node})" for key, node in list(pending.items())[:_NAMED]]
    more = len(pending) - len(shown)
    return f"Waiting: {', '.join(shown)}{f' and {more} more' if more else ''}."
