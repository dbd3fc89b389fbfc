"""Deleting the threads of an assistant, when it is deleted and its caller asks for that."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.threads.listing import ThreadListing
from headrace.threads.removal import ThreadRemoval
from headrace.threads.schemas import ThreadSearch, ThreadsPrune

#: Threads looked up at once; each is deleted in a transaction of its own.
_PAGE = 100

DeleteThreads = Callable[[Principal, UUID], Awaitable[None]]


def deleting_threads(listing: ThreadListing, removal: ThreadRemoval) -> DeleteThreads:
    """A call that deletes the threads whose last run was of an assistant, and stops their runs.

    :raises RunStillStopping: one of them did not stop; those before it are gone.
    """

    async def delete(principal: Principal, assistant_id: UUID) -> None:
        wanted = ThreadSearch(
            metadata={"assistant_id": str(assistant_id)}, limit=_PAGE, select=["thread_id"]
        )
        while found := (await listing.search(principal, wanted)).threads:
            thread_ids = [thread["thread_id"] for thread in found]
            await removal.prune(principal, ThreadsPrune(thread_ids=thread_ids, strategy="delete"))

    return delete
