"""No saver at all: what the graph, LangGraph and FastAPI cost by themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from loadtests.peers.application import application


def app() -> FastAPI:
    return application(_nothing)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield None
