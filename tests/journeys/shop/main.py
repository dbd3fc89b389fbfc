"""A shop's app: a forum and a chat that nobody answers yet."""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from models import Base, Thread
from pydantic import BaseModel
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine


@asynccontextmanager
async def lifespan(app: FastAPI):
    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        # Two processes start at once, and both would make the tables.
        await connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
        await connection.run_sync(Base.metadata.create_all)
    yield {"sessions": async_sessionmaker(engine)}
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def name_the_shop(request: Request, call_next):
    response = await call_next(request)
    response.headers["x-shop"] = "open"
    return response


class NewThread(BaseModel):
    title: str


@app.post("/threads")
async def open_thread(new: NewThread, request: Request):
    async with request.state.sessions.begin() as session:
        session.add(thread := Thread(title=new.title))
        await session.flush()
        return {"id": thread.id, "title": thread.title}


@app.get("/threads/{number}")
async def read_thread(number: int, request: Request):
    async with request.state.sessions() as session:
        thread = (await session.scalars(select(Thread).where(Thread.id == number))).one()
        return {"id": thread.id, "title": thread.title}


class Question(BaseModel):
    message: str
    thread_id: str


@app.post("/chat")
async def chat(question: Question, request: Request):
    return {"reply": "We will call you back."}
