"""Deleting the threads of an assistant, when it is deleted and its caller asks for that."""

from uuid import UUID

from headrace.auth.principal import Principal
from headrace.threads.listing import ThreadListing
from headrace.threads.removal import ThreadRemoval
from headrace.threads.schemas import ThreadSearch, ThreadsPrune

#: Threads looked up at once; each is deleted in a transaction of its own.
_PAGE = 100


class AssistantThreads:
    """The threads whose last run was of one assistant."""

    def __init__(self, listing: ThreadListing, removal: ThreadRemoval) -> None:
        self._listing = listing
        self._removal = removal

    async def delete(self, principal: Principal, assistant_id: UUID) -> None:
        """Delete them, and stop their runs.

        :raises RunStillStopping: one of them did not stop; those before it are gone.
        """
        wanted = ThreadSearch(
            metadata={"assistant_id": str(assistant_id)}, limit=_PAGE, select=["thread_id"]
        )
        while found := (await self._listing.search(principal, wanted)).threads:
            thread_ids = [thread["thread_id"] for thread in found]
            prune = ThreadsPrune(thread_ids=thread_ids, strategy="delete")
            await self._removal.prune(principal, prune)
