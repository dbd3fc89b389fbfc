"""A LangGraph agent behind FastAPI, with its conversations in Postgres."""

import os

import headrace
from fastapi import FastAPI, Request
from langchain.chat_models import init_chat_model
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

model = init_chat_model(os.environ.get("MODEL", "openai:gpt-4o-mini"))


async def call_model(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node(call_model)
builder.add_edge(START, "call_model")


app = FastAPI(lifespan=headrace.lifespan(graphs={"agent": builder}))
app.include_router(headrace.router)


class Question(BaseModel):
    message: str
    thread_id: str = "1"


@app.post("/ask")
async def ask(question: Question, request: Request):
    graph = headrace.graph(request, "agent")
    config = {"configurable": {"thread_id": question.thread_id}}
    messages = [{"role": "user", "content": question.message}]
    result = await graph.ainvoke({"messages": messages}, config)
    return {"reply": result["messages"][-1].content}
