"""Metrics of the way to the database: the pool, and what is sent over it."""

from headrace.observability.declarations import DATABASE_BUCKETS, Declarations


class DatabaseMetrics:
    """Database metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._checkout_seconds = declarations.histogram(
            "headrace_pool_checkout_seconds",
            "Seconds that requests waited for a pool connection, in vain or not.",
            DATABASE_BUCKETS,
        )
        self._pool_timeouts = declarations.counter(
            "headrace_pool_timeouts_total", "Requests that got no pool connection in time."
        )
        self._statements = declarations.counter(
            "headrace_database_statements_total",
            "Statements sent over the pool, BEGIN, COMMIT and checks of connections included.",
        )
        self._transactions = declarations.counter(
            "headrace_database_transactions_total",
            "Transactions begun over the pool, those of single statements included.",
        )
        self._silent = declarations.counter(
            "headrace_silent_connections_total",
            "Connections that were ended because an answer was lost: Postgres worked on nothing.",
        )
        #: What is counted already.
        self._counted = (0, 0)

    def observe_checkout(self, seconds: float, timed_out: bool) -> None:
        """Count a request for a connection: the seconds it waited, and whether it got none."""
        self._checkout_seconds.observe(seconds)
        if timed_out:
            self._pool_timeouts.inc()

    def count_silent_connection(self) -> None:
        self._silent.inc()

    def count_traffic(self, statements: int, transactions: int) -> None:
        """Count what the pool has sent since the last call.

        :param statements: all since the process started; so is ``transactions``.
        """
        before_statements, before_transactions = self._counted
        self._statements.inc(statements - before_statements)
        self._transactions.inc(transactions - before_transactions)
        self._counted = (statements, transactions)
