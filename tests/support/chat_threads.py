"""Threads of the built-in graph, driven through its present definition and the one before."""

from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore

from headrace.graphs.chat import build_chat
from headrace.states.reader import to_thread_state


def previous_chat() -> StateGraph:
    """The graph as the release before had it: the whole list is stored at every step."""
    builder = StateGraph(MessagesState)
    builder.add_node("call_model", build_chat("").nodes["call_model"].runnable)
    builder.add_edge(START, "call_model")
    return builder


GRAPHS = {"previous": previous_chat, "present": lambda: build_chat("")}


def compiled(saver, which="present"):
    return GRAPHS[which]().compile(checkpointer=saver, store=InMemoryStore())


class Thread:
    """One thread, driven through one graph."""

    def __init__(self, graph, thread_id="t", **options):
        self.graph = graph
        self.config = {"configurable": {"thread_id": thread_id, "user_id": None}}
        self.options = options

    async def say(self, text, *, id=None, checkpoint_id=None, **options):
        return await self.run({"messages": [HumanMessage(text, id=id)]}, checkpoint_id, **options)

    async def run(self, what, checkpoint_id=None, **options):
        state = await self.graph.ainvoke(what, self.at(checkpoint_id), **self.options | options)
        return state["messages"]

    async def update(self, *messages, checkpoint_id=None, as_node=None):
        return await self.graph.aupdate_state(
            self.at(checkpoint_id), {"messages": list(messages)}, as_node=as_node
        )

    async def state(self, checkpoint_id=None):
        return await self.graph.aget_state(self.at(checkpoint_id))

    async def messages(self, checkpoint_id=None):
        return (await self.state(checkpoint_id)).values["messages"]

    async def history(self):
        return [one async for one in self.graph.aget_state_history(self.config)]

    def at(self, checkpoint_id):
        if checkpoint_id is None:
            return self.config
        configurable = {**self.config["configurable"], "checkpoint_id": checkpoint_id}
        return {"configurable": configurable}


def checkpoint_id(snapshot):
    return snapshot.config["configurable"]["checkpoint_id"]


def said(messages) -> list[tuple[str, str]]:
    return [(message.type, message.text) for message in messages]


def as_clients_see(snapshot) -> dict[str, object]:
    """What the API shows of a state, without ids and times, which differ from run to run."""
    shown = to_thread_state(snapshot)
    return {
        "values": {**shown.values, "messages": said(shown.values["messages"])},
        "next": shown.next,
        "metadata": shown.metadata,
        "tasks": [(task["name"], task["error"]) for task in shown.tasks],
        "interrupts": shown.interrupts,
        "is_first": shown.parent_checkpoint is None,
    }
