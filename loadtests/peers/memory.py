"""LangGraph's saver in memory: each process remembers what it did itself, until it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver

from loadtests.peers.application import application


def app() -> FastAPI:
    return application(_in_memory)


@asynccontextmanager
async def _in_memory() -> AsyncIterator[InMemorySaver]:
    yield InMemorySaver()
