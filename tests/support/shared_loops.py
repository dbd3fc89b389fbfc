"""The background tasks of a server process, by name."""

#: Each of them ran for as long as the process, and ended for good where something went wrong.
LOOPS = {
    "claims",
    "control",
    "database-probe",
    "event-sweeper",
    "heartbeat-watch",
    "idempotency-sweeper",
    "notices-listen",
    "notices-send",
    "pulse",
    "queue-depth",
    "rescuer",
    "retention-sweeper",
    "schema-probe",
    "store-sweeper",
    "temporary-threads",
    "thread-watcher",
    "watchdog-tick",
    "watcher",
}
