// A chat page as people write one; it tells what it shows through `window.shown`.
import { useStream } from "@langchain/langgraph-sdk/react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);

window.texts = []; // what the last answer looked like, render by render
window.errors = [];
window.created = [];

function Chat() {
  const stream = useStream({
    apiUrl: query.get("api"),
    assistantId: query.get("assistant"),
    threadId: query.get("thread"),
    onThreadId: (id) => {
      query.set("thread", id);
      history.replaceState(null, "", `?${query}`);
    },
    onCreated: (run) => window.created.push(run),
    onError: (error) => window.errors.push(String(error)),
    reconnectOnMount: true,
    fetchStateHistory: true,
  });
  const last = stream.messages.at(-1);
  if (stream.isLoading && last?.type === "ai") window.texts.push(last.content);
  window.stream = stream;
  window.shown = {
    thread: query.get("thread"),
    loading: stream.isLoading,
    messages: stream.messages.map((message) => [message.type, message.content]),
    interrupt: stream.interrupt?.value ?? null,
    branches: stream.messages.map(
      (message) => stream.getMessagesMetadata(message)?.branchOptions?.length ?? 0,
    ),
  };
  return <pre>{JSON.stringify(window.shown, null, 1)}</pre>;
}

createRoot(document.getElementById("root")).render(<Chat />);
