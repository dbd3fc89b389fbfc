"""The tutorial's server: upstream's saver as its documentation opens it, on one connection."""

import os

from fastapi import FastAPI
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from loadtests.peers.application import application


def app() -> FastAPI:
    """Reads the address of its database from DATABASE_URL."""
    url = os.environ["DATABASE_URL"]
    return application(lambda: AsyncPostgresSaver.from_conn_string(url))
