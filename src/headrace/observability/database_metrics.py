"""Metrics of the way to the database: the pool."""

from headrace.observability.declarations import DATABASE_BUCKETS, Declarations


class DatabaseMetrics:
    """Database metrics of one process."""

    def __init__(self, declarations: Declarations) -> None:
        self._checkout_seconds = declarations.histogram(
            "headrace_pool_checkout_seconds",
            "Seconds that requests waited for a pool connection, in vain or not.",
            (),
            DATABASE_BUCKETS,
        )
        self._pool_timeouts = declarations.counter(
            "headrace_pool_timeouts_total", "Requests that got no pool connection in time.", ()
        )

    def observe_checkout(self, seconds: float, timed_out: bool) -> None:
        """Count a request for a connection: the seconds it waited, and whether it got none."""
        self._checkout_seconds.observe(seconds)
        if timed_out:
            self._pool_timeouts.inc()
