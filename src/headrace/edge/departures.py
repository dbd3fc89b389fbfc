"""Notices that the client of a request has left, so that no more work is done for it.

headrace's own server tells when a connection is lost. Other servers tell only the task that waits
for the next message of the request.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar, cast

from starlette.types import Receive

from headrace.errors import RequestError

T = TypeVar("T")

#: Done as soon as the connection of a request is lost.
Lost = asyncio.Future[None]

#: The key in a request's state under which the server says whether the connection is lost.
_LOST = "headrace_lost"


class ClientLeft(RequestError):
    """The client has left before its answer began."""

    #: nginx's status for it. Only the log and metrics show it.
    status = 499
    code = "client_left"


def note_connection(state: dict[str, Any], lost: Lost) -> None:
    """The server tells when the client has left, so that no task need wait for it.

    :param state: of the request.
    """
    state[_LOST] = lost


def lost_of(scope: Mapping[str, Any]) -> Lost | None:
    """Tells when the client of a request has left; None: the server does not tell."""
    return cast("Lost | None", scope.get("state", {}).get(_LOST))


async def unless_lost(work: Coroutine[Any, Any, T], lost: Lost | None) -> T:
    """The result of ``work``. It needs no task: most work of this kind ends at once.

    :param lost: None: the client is not watched.
    :raises ClientLeft: the client has left while ``work`` waited; ``work`` was cancelled.
    """
    if lost is None:
        return await work
    task, waits, has_left = cast("asyncio.Task[Any]", asyncio.current_task()), True, False
    before = task.cancelling()

    def leave(_: Lost) -> None:
        nonlocal has_left
        # The loop may call this when the work has just ended.
        if waits:
            has_left = True
            task.cancel()

    lost.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and task.uncancel() <= before:
            raise ClientLeft from None
        raise
    finally:
        waits = False
        lost.remove_done_callback(leave)


async def unless_left(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The result of ``work``. Call it after the request's body is read, before the answer begins.

    An error of ``work`` is raised here.

    :raises ClientLeft: the client has left; ``work`` was cancelled.
    """
    working = asyncio.create_task(work)  # noqa: TID251 - ends in this function
    watching = asyncio.create_task(until_left(receive))  # noqa: TID251 - ends in this function
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def until_left(receive: Receive) -> None:
    """Return when the client has left. The messages that come before that are lost."""
    while (await receive())["type"] != "http.disconnect":
        pass
