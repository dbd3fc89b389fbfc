"""The agent that the shop wants to add."""

from langgraph.graph import START, MessagesState, StateGraph


async def reply(state: MessagesState):
    said = [message for message in state["messages"] if message.type == "human"]
    return {"messages": [("ai", f"message {len(said)}: {said[-1].content}")]}


builder = StateGraph(MessagesState)
builder.add_node(reply)
builder.add_edge(START, "reply")
