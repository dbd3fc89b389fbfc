// The state that `@langchain/react` shows, without React: turns, a question, a page that is loaded again. Against
// the server whose URL is the first argument; prints one JSON.
import { Client } from "@langchain/langgraph-sdk";
import { StreamController } from "@langchain/langgraph-sdk/stream";

const client = new Client({ apiUrl: process.argv[2], callerOptions: { maxRetries: 0 } });
const facts = {};
const text = (message) =>
  typeof message.content === "string" ? message.content : message.content.map((one) => one.text).join("");
const shown = (controller) => controller.rootStore.getSnapshot();
const until = async (what, check) => {
  for (let round = 0; round < 300; round += 1) {
    const found = check();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`late: ${what}`);
};
const human = (content) => ({ messages: [{ type: "human", content }] });
const created = [];
const options = (assistantId, threadId) => ({
  client,
  assistantId,
  threadId,
  onCreated: (run) => created.push(run.runId ?? run.run_id),
});

const chat = new StreamController(options("chat"));
chat.activate();
await chat.submit(human("one"));
await chat.submit(human("two"));
// The end of a run and its values come in two streams.
await until("second turn", () => shown(chat).messages.length === 4);
const turns = shown(chat);
facts.turns = turns.messages.map(text);
facts.loading = turns.isLoading;
facts.error = turns.error ?? null;

const page = new StreamController(options("chat", turns.threadId));
page.activate();
await page.hydrationPromise;
facts.loaded = shown(page).messages.map(text);
await page.submit(human("three"));
await until("third turn", () => shown(page).messages.length === 6);
facts.third = shown(page).messages.map(text).at(-1);

const asking = new StreamController(options("hitl"));
asking.activate();
await asking.submit({ topic: "v3" });
facts.asked = shown(asking).interrupts.map((one) => one.value);
const later = new StreamController(options("hitl", shown(asking).threadId));
later.activate();
await later.hydrationPromise;
facts.known = shown(later).interrupts.length;
// The state shows the question at once; the client can answer when the stream has told it too.
await until("interrupt of a loaded page", () => later.getThread()?.interrupts.length === 1);
await later.respond("ok");
await until("answer", () => (shown(later).values.log ?? []).length === 2);
facts.answered = shown(later).values.log;
await until("the other page", () => (shown(asking).values.log ?? []).length === 2);
facts.left = [shown(later).interrupts.length, shown(asking).interrupts.length];

const failing = new StreamController(options("boom"));
failing.activate();
await failing.submit({ topic: "v3" });
facts.failed = shown(failing).error?.message;
facts.created = created.length;

for (const one of [chat, page, asking, later, failing]) await one.dispose();
console.log(JSON.stringify(facts));
process.exit(0);
