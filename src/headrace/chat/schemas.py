"""The small door on the wire."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headrace.threads.schemas import AnyThreadId, storable_id


class ChatRequest(BaseModel):
    """One message; on a thread it goes on, without one it starts a conversation."""

    model_config = ConfigDict(extra="ignore")

    message: str = Field(min_length=1)
    thread_id: AnyThreadId | None = None
    user_id: Annotated[str, Field(max_length=255), AfterValidator(storable_id)] | None = None


class ChatReply(BaseModel):
    """``reply`` is the text of the last message; null when the graph waits for an answer."""

    thread_id: str
    run_id: UUID
    reply: str | None
    messages: list[dict[str, Any]]
