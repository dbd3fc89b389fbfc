"""Bodies of requests to the OpenAI-shaped API. Fields that it does not name are kept apart."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headrace.chat.schemas import ChatThreadId
from headrace.ids import storable_id

#: Messages, or items, of one request.
_MAX_MESSAGES = 10_000

ModelName = Annotated[
    str,
    Field(
        min_length=1, max_length=255, description="The name of a graph, or the id of an assistant."
    ),
]
UserName = Annotated[
    Annotated[str, Field(max_length=255), AfterValidator(storable_id)] | None,
    Field(description="The user who speaks; the graph finds it in its configuration."),
]
Streamed = Annotated[bool | None, Field(description="Stream the reply.")]


class RunLabels(BaseModel):
    """Metadata of the run."""

    model_config = ConfigDict(extra="allow")

    thread_id: ChatThreadId | None = Field(
        None, description="The thread to run on, which is made if it is not there."
    )


class CalledFunction(BaseModel):
    """A function that a message calls; ``arguments`` is JSON text."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, description="The name of the tool.")
    arguments: str = Field("{}", description="The arguments, as the text of a JSON object.")


class CalledTool(BaseModel):
    """A call of a tool in a message of the assistant."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(description="The id of the call.")
    type: Literal["function"] = Field("function", description="`function`.")
    function: CalledFunction = Field(description="The function that is called.")


class CompletionMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(
        description="Who speaks."
    )
    content: str | list[dict[str, Any]] | None = Field(None, description="A text, or its parts.")
    name: str | None = Field(None, description="The name of the speaker.")
    tool_calls: list[CalledTool] | None = Field(None, description="The tools that it calls.")
    tool_call_id: str | None = Field(None, description="The call that a tool answers.")


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = Field(None, description="Send the tokens in a last chunk.")


class CompletionRequest(BaseModel):
    """A conversation, which the graph goes on with."""

    model_config = ConfigDict(extra="allow")

    model: ModelName
    messages: Annotated[
        list[CompletionMessage], Field(min_length=1, max_length=_MAX_MESSAGES, fail_fast=True)
    ] = Field(description="The conversation; on a thread only what is new in it.")
    stream: Streamed = None
    stream_options: StreamOptions | None = Field(None, description="Options of the stream.")
    user: UserName = None
    metadata: RunLabels | None = Field(None, description="Metadata of the run.")


class ResponseRequest(BaseModel):
    """The input of a response."""

    model_config = ConfigDict(extra="allow")

    model: ModelName
    input: (
        str
        | Annotated[
            list[dict[str, Any]], Field(min_length=1, max_length=_MAX_MESSAGES, fail_fast=True)
        ]
    ) = Field(description="A text of the user, or items: messages, calls and their results.")
    instructions: str | None = Field(None, description="A system message before the input.")
    previous_response_id: str | None = Field(
        None, max_length=255, description="The response to go on from: the last one of its thread."
    )
    store: bool | None = Field(
        None, description="Keep the conversation, so that it can go on; `false`: do not."
    )
    stream: Streamed = None
    stream_options: StreamOptions | None = Field(None, description="Options of the stream.")
    user: UserName = None
    metadata: RunLabels | None = Field(None, description="Metadata of the run.")
