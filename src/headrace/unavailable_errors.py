"""Refusals that end by themselves: the server, its database or a model is busy or away."""

import random

from headrace.errors import RequestError


class Unavailable(RequestError):
    """The server cannot take this request now; try again."""

    status = 503
    code = "unavailable"
    retry_after_seconds: int | None = 1


class DatabaseUnavailable(Unavailable):
    """The database does not answer; try again."""

    code = "database_unavailable"
    retry_after_seconds: int | None = 2


class StatementTooSlow(DatabaseUnavailable):
    """The database did not finish in its time limit, such as requests.list_timeout_seconds; ask for
    less, or try again later.
    """

    code = "statement_too_slow"
    retry_after_seconds = 5


class OutcomeUnknown(DatabaseUnavailable):
    """The database went away while it committed the change, so nobody knows whether it is made.

    Look, then send the request again if it is not.
    """

    code = "outcome_unknown"
    retry_after_seconds = None


class Overloaded(Unavailable):
    """This process has more requests than it can work on (settings requests.at_once and
    requests.max_waiting); try again.
    """

    code = "overloaded"

    def __init__(self) -> None:
        super().__init__()
        # Callers that were refused together should not come back together.
        self.retry_after_seconds = random.randint(1, 3)  # noqa: S311 - no secret


class PoolExhausted(Unavailable):
    """No database connection became free in time (setting database.pool_max); try again."""

    code = "pool_exhausted"


class PoolShareFull(Unavailable):
    """Requests of this kind use their whole part of the database pool; try again."""

    code = "pool_share_full"
    retry_after_seconds = 2


class RunStillStopping(Unavailable):
    """The run has not stopped yet; try again."""

    code = "run_still_stopping"


class UpdateTooSlow(Unavailable):
    """The change of the thread's state took too long; nothing has changed."""

    code = "update_too_slow"
    #: Its time was over while the database owed the answer to a statement.
    database_owed = False


class TooManyStreams(Unavailable):
    """This process streams as many threads as events.max_thread_streams allows; try again."""

    code = "too_many_streams"


class TooManyAnswers(Unavailable):
    """This process has no place for another stream, wait or join (setting server.max_connections);
    try again.
    """

    code = "too_many_answers"


class TooManyAppRequests(Unavailable):
    """This process answers as many requests to its own app as it may, a quarter of its
    connections (setting server.max_connections); try again.
    """

    code = "too_many_app_requests"


class TooManySockets(Unavailable):
    """This process has no place for another WebSocket of the app (setting server.max_app_sockets);
    try again.
    """

    code = "too_many_sockets"


class AnswersFull(Unavailable):
    """Other answers use all the memory of this process for large states (setting
    answers.memory_bytes); try again.
    """

    code = "answers_full"
    retry_after_seconds = 2


class BodiesFull(Unavailable):
    """Other requests use all the memory of this process for large bodies (setting
    requests.bodies_bytes); try again.
    """

    code = "bodies_full"
    retry_after_seconds = 2


class TooManyPublicRequests(Unavailable):
    """Too many public requests, which need no key, wait in this process; try again."""

    code = "too_many_public_requests"
    retry_after_seconds = 2


class GraphNotMade(Unavailable):
    """The graph's factory failed, or took too long."""

    code = "graph_not_made"
    retry_after_seconds = 5


class EmbeddingFailed(Unavailable):
    """The embedding model failed, or took too long; nothing was stored or searched. Try again."""

    code = "embedding_failed"
    retry_after_seconds = 5


class EmbeddingsFull(EmbeddingFailed):
    """Too many texts wait for the embedding model in this process; try again."""

    code = "embeddings_full"


class IndexChanged(Unavailable):
    """The store has vectors of another model now; this server needs the new langgraph.json."""

    code = "index_changed"
    retry_after_seconds = 30


class Draining(Unavailable):
    """The server is shutting down and takes no new runs; try again."""

    code = "draining"
