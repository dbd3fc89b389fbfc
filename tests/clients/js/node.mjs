// The JavaScript client's methods, against the server whose URL is the first argument; prints one JSON.
// The second argument marks what this run makes.
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2], callerOptions: { maxRetries: 0 } });
const input = { messages: [{ type: "human", content: "hi" }] };
const mark = process.argv[3];
const facts = {};
const contents = (values) => values.messages.map((message) => message.content);
const all = async (stream) => {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
};

const { assistants, threads, runs, store } = client;
const [first] = await assistants.search({ graphId: "talker" });
facts.graph = first.graph_id;
const own = await assistants.create({ graphId: "talker", name: "mine", metadata: { by: mark } });
await assistants.update(own.assistant_id, { name: "still mine" });
facts.assistant = (await assistants.get(own.assistant_id)).name;
facts.versions = (await assistants.getVersions(own.assistant_id)).length;
facts.version = (await assistants.setLatest(own.assistant_id, 1)).name;
facts.nodes = (await assistants.getGraph(own.assistant_id)).nodes.map((node) => node.id);
facts.schemas = Object.keys(await assistants.getSchemas(own.assistant_id)).sort();
facts.assistants = await assistants.count({ metadata: { by: mark } });
await assistants.delete(own.assistant_id);

const thread = await threads.create({ metadata: { by: mark } });
const id = thread.thread_id;
facts.wait = contents(await runs.wait(id, "talker", { input }));
let created;
const parts = await all(
  runs.stream(id, "talker", {
    input,
    streamMode: ["values", "messages-tuple"],
    streamResumable: true,
    onRunCreated: (run) => (created = run),
  }),
);
facts.events = [...new Set(parts.map((part) => part.event))];
facts.runId = parts[0].data.run_id === created.run_id;
const again = await all(runs.joinStream(id, created.run_id, { lastEventId: "-1" }));
facts.replayed = again.length === parts.length;
const chosen = await all(
  runs.joinStream(id, created.run_id, { lastEventId: "-1", streamMode: ["values"] }),
);
facts.chosen = [...new Set(chosen.map((part) => part.event))];
facts.join = contents(await runs.join(id, created.run_id)).length;
facts.run = (await runs.get(id, created.run_id)).status;
facts.runs = (await runs.list(id, { limit: 10 })).length;
const background = await runs.create(id, "talker", { input, afterSeconds: 3600 });
await runs.cancel(id, background.run_id, true);
facts.cancelled = (await runs.get(id, background.run_id)).status;
await runs.delete(id, background.run_id);
facts.batch = (await runs.createBatch([{ assistantId: "talker", input }])).length;

const states = await threads.getHistory(id, { limit: 20 });
facts.history = states.length;
const before = { configurable: { checkpoint_id: states[1].checkpoint.checkpoint_id } };
facts.before = (await threads.getHistory(id, { limit: 20, before })).length;
facts.state = contents((await threads.getState(id)).values).length;
facts.stateAt = contents((await threads.getState(id, states[1].checkpoint)).values).length;
const update = { values: { messages: [{ type: "human", content: "edited" }] }, asNode: "speak" };
await threads.updateState(id, update);
facts.updated = contents((await threads.getState(id)).values).at(-1);
await threads.update(id, { metadata: { more: 1 } });
facts.metadata = (await threads.get(id)).metadata.more;
facts.found = (await threads.search({ metadata: { by: mark, more: 1 } })).length;
facts.threads = await threads.count({ metadata: { by: mark } });
facts.copied = contents((await threads.getState((await threads.copy(id)).thread_id)).values).length;
await threads.delete(id);
facts.missing = await threads.get(id).catch((error) => [error.status, error.message]);

const { crons } = client;
const daily = { schedule: "0 5 * * *", input, metadata: { by: mark } };
const cron = await crons.create("talker", { ...daily, onRunCompleted: "keep" });
facts.cron = [cron.on_run_completed, cron.thread_id];
const owner = (await threads.create()).thread_id;
facts.bound = (await crons.createForThread(owner, "talker", daily)).thread_id === owner;
facts.crons = (await crons.search({ metadata: { by: mark }, sortBy: "created_at" })).length;
facts.counted = await crons.count({ metadata: { by: mark } });
await crons.delete(cron.cron_id);
await threads.delete(owner);
facts.left = await crons.count({ metadata: { by: mark } });

await store.putItem(["js", "notes"], "k", { a: 1 });
facts.item = (await store.getItem(["js", "notes"], "k")).value;
facts.items = (await store.searchItems(["js"])).items.length;
facts.namespaces = (await store.listNamespaces({ prefix: ["js"] })).namespaces;
await store.deleteItem(["js", "notes"], "k");
facts.gone = await store.getItem(["js", "notes"], "k");
console.log(JSON.stringify(facts));
