"""The body of a request for two readers: who tells who calls, and the app."""

from starlette.types import Message, Receive

from headrace.edge.requests import JSONRequest


def replayed(request: JSONRequest, receive: Receive) -> Receive:
    """Receives the body that ``request`` has read, and then what comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given or not request.is_read:
            return await receive()
        given = True
        return {"type": "http.request", "body": await request.body(), "more_body": False}

    return receive_again
