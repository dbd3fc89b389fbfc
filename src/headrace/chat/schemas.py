"""Requests and answers of ``/chat``."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from headrace.ids import storable_id
from headrace.threads.schemas import AnyThreadId

#: A body holds no more anyway, unless the server's settings let it.
MAX_MESSAGE = 16 * 1024 * 1024


def _reachable_id(value: str) -> str:
    """Conversations are read at ``/threads/{thread_id}``: an id is one part of a path."""
    if "/" in value or value in (".", ".."):
        raise ValueError(
            "a thread id is one part of a path: it has no slash, and is not '.' or '..';"
            " write user-7 instead of user/7"
        )
    return value


ChatThreadId = Annotated[AnyThreadId, AfterValidator(_reachable_id)]


class ChatRequest(BaseModel):
    """What to say, or what to answer where the graph has asked. Other fields are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"message": "Hello", "thread_id": "ada-1", "user_id": "ada"}]
        },
    )

    message: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_MESSAGE,
        description="What to say. Send either this or `resume`.",
    )
    resume: Any = Field(
        None,
        description=(
            "The answer to what the graph waits for, as it came in `interrupts`. Where it waits for"
            " several answers: an object of them by the ids of the interrupts."
        ),
    )
    thread_id: ChatThreadId | None = Field(
        None, description="The conversation to go on with, or to begin; omitted: a new one."
    )
    user_id: Annotated[str, Field(max_length=255), AfterValidator(storable_id)] | None = Field(
        None,
        description=(
            "Who speaks; the graph finds it in its configuration. API keys do not say who calls,"
            " so they change nothing about it."
        ),
    )
    context: dict[str, Any] | None = Field(
        None, description="The graph's context, as its context schema describes it."
    )

    @property
    def resumes(self) -> bool:
        return "resume" in self.model_fields_set

    @model_validator(mode="after")
    def _one_of_both(self) -> "ChatRequest":
        if (self.message is None) is not self.resumes:
            raise ValueError("send either message or resume")
        if self.resumes and self.thread_id is None:
            raise ValueError("resume needs the thread_id of the conversation that waits")
        return self


class ChatInterrupt(BaseModel):
    """A question of the graph's."""

    id: str | None = Field(description="Names it among several.")
    value: Any = Field(description="What the graph asks.")


class ChatReply(BaseModel):
    """What the graph has said, or what it waits for."""

    thread_id: str = Field(description="The conversation; send it with the next message.")
    run_id: UUID = Field(description="The run that made this reply.")
    reply: str | None = Field(
        description=(
            "The text of the last message; null where the graph waits for an answer or has said"
            " nothing."
        )
    )
    interrupts: list[ChatInterrupt] = Field(
        description="What the graph waits for; send the answer as `resume`."
    )
    messages: list[dict[str, Any]] = Field(description="The whole conversation.")
