"""Bodies of requests to ``/chat`` and of the answers."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from headrace.ids import storable_id
from headrace.threads.schemas import AnyThreadId

#: Twice the default limit on a body.
MAX_MESSAGE = 16 * 1024 * 1024


def _reachable_id(value: str) -> str:
    """A thread id that is one part of a path: clients read ``/threads/{thread_id}``."""
    if "/" in value or value in (".", ".."):
        raise ValueError(
            "a thread id is one part of a path: it has no slash, and is not '.' or '..';"
            " write user-7 instead of user/7"
        )
    return value


ChatThreadId = Annotated[AnyThreadId, AfterValidator(_reachable_id)]


class ChatRequest(BaseModel):
    """A message, or the answer to a question of the graph. Other fields are ignored."""

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
        description="The message. Send either this or `resume`.",
    )
    resume: Any = Field(
        None,
        description=(
            "The answer to the question in `interrupts`. If there are several questions: an object"
            " with the answers by the ids of the interrupts."
        ),
    )
    thread_id: ChatThreadId | None = Field(
        None, description="The conversation to continue or to begin; omitted: a new one."
    )
    user_id: Annotated[str, Field(max_length=255), AfterValidator(storable_id)] | None = Field(
        None,
        description=(
            "The user who speaks. The graph finds it in its configuration. A caller with an"
            " identity can only name itself. A key of the settings has no identity."
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
    """A question of the graph."""

    id: str | None = Field(description="The id of the question, for `resume` with several answers.")
    value: Any = Field(description="The question.")


class ChatReply(BaseModel):
    """The reply of the graph, or the questions that it waits for."""

    thread_id: str = Field(description="The conversation; send it with the next message.")
    run_id: UUID = Field(description="The run that made this reply.")
    reply: str | None = Field(
        description=(
            "The text of the last message; null if the graph waits for an answer or has no reply."
        )
    )
    interrupts: list[ChatInterrupt] = Field(
        description="The questions that the graph waits for; send the answer as `resume`."
    )
    messages: list[dict[str, Any]] = Field(description="The whole conversation.")
