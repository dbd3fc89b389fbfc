// The JavaScript client's `threads.stream`, against the server whose URL is the first argument; prints one
// JSON. The second argument is the transport of the events.
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2], callerOptions: { maxRetries: 0 } });
const transport = process.argv[3];
const input = { messages: [{ type: "human", content: "hi" }] };
const facts = {};
const late = (what) =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`late: ${what}`)), 15000).unref());
const soon = (promise, what) => Promise.race([promise, late(what)]);
const opened = [];
const stream = (assistantId, threadId) => {
  const thread = threadId
    ? client.threads.stream(threadId, { assistantId, transport })
    : client.threads.stream({ assistantId, transport });
  opened.push(thread);
  return thread;
};
const text = (message) =>
  typeof message.content === "string" ? message.content : message.content.map((one) => one.text).join("");

const thread = stream("chat");
const texts = [];
const reading = (async () => {
  for await (const message of thread.messages) {
    const parts = [];
    for await (const part of message.text) parts.push(part);
    texts.push(parts);
  }
})();
const started = await soon(thread.run.start({ input }), "start");
facts.runId = typeof started.run_id;
const output = await soon(thread.output, "output");
await soon(reading, "messages");
facts.texts = texts;
facts.output = output.messages.map(text);

// A second run on the same connection, and a client that comes later.
await soon(thread.run.start({ input }), "second start");
facts.second = await soon(
  (async () => {
    for (;;) {
      const state = await client.threads.getState(thread.threadId);
      if (state.values.messages.length === 4 && !state.next.length) return 4;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })(),
  "second",
);
const again = stream("chat", thread.threadId);
const subscription = await soon(again.subscribe(["lifecycle", "values"]), "subscribe");
const seen = [];
for await (const event of subscription) {
  seen.push(event.method === "values" ? "values" : event.params.data.event);
  if (seen.at(-1) === "completed") break;
}
facts.replayed = seen;

const asking = stream("hitl");
await soon(asking.run.start({ input: { topic: "v3" } }), "hitl start");
await soon(
  (async () => {
    while (!asking.interrupted || !asking.interrupts.length)
      await new Promise((resolve) => setTimeout(resolve, 20));
  })(),
  "interrupt",
);
facts.asked = asking.interrupts.map((one) => [one.payload, one.namespace]);
await soon(
  asking.input.respond({
    namespace: asking.interrupts[0].namespace,
    interrupt_id: asking.interrupts[0].interruptId,
    response: "ok",
  }),
  "respond",
);
facts.answered = (await soon(
  (async () => {
    for (;;) {
      const state = await client.threads.getState(asking.threadId);
      if (state.values.log.length === 2) return state;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })(),
  "answered",
)).values.log;

const failing = stream("boom");
const failed = await soon(
  (async () => {
    await failing.run.start({ input: { topic: "v3" } });
    for await (const event of await failing.subscribe(["lifecycle"]))
      if (event.params.data.event === "failed") return event.params.data;
  })(),
  "failed",
);
facts.failed = failed.error;

const nested = stream("nested");
const subgraphs = [];
const finding = (async () => {
  for await (const one of nested.subgraphs) subgraphs.push(one.name);
})();
await soon(nested.run.start({ input }), "nested start");
await soon(nested.output, "nested output");
await soon(finding, "subgraphs");
facts.subgraphs = subgraphs;

const tools = stream("tooler");
const calls = [];
const calling = (async () => {
  for await (const call of tools.toolCalls) calls.push([call.name, call.input]);
})();
await soon(tools.run.start({ input }), "tools start");
await soon(tools.output, "tools output");
await soon(calling, "tool calls");
facts.calls = calls;

const refused = [];
for (const ask of [
  () => asking.input.respond({ namespace: [], interrupt_id: "x", response: 1 }),
  () => asking.agent.getTree(),
  () => asking.state.get({ namespace: [] }),
])
  await soon(ask(), "refusal").catch((error) => refused.push(error.code));
facts.refused = refused;

for (const one of opened) await one.close();
console.log(JSON.stringify(facts));
process.exit(0);
