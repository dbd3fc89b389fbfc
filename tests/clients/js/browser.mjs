// Plays the page in Chromium and prints, a line each, what happened: {name, ...facts}.
// Arguments: the server's URL, the folder of the bundled page, the browser's path.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [api, folder, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${process.env.NODE_PATH}/`)("playwright-core");

const HTML = '<!doctype html><div id="root"></div><script src="/page.js"></script>';

// Another port is another origin: whatever works here works through CORS.
const site = createServer(async (request, response) => {
  const script = request.url.startsWith("/page.js");
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  response.end(script ? await readFile(`${folder}/page.js`) : HTML);
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${site.address().port}`;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await (await browser.newContext()).newPage();
page.setDefaultTimeout(15000);
const complaints = [];
page.on("console", (message) => {
  if (message.type() === "error") complaints.push(message.text());
});
page.on("pageerror", (error) => complaints.push(String(error)));

const tell = (name, facts) => console.log(JSON.stringify({ name, ...facts }));
const open = (assistant) =>
  page.goto(`${origin}/?${new URLSearchParams({ api, assistant })}`);
const shown = () => page.evaluate(() => window.shown);
const quiet = () => page.waitForFunction(() => window.shown && !window.shown.loading);
const answered = (count) =>
  page.waitForFunction(
    (count) => !window.shown.loading && window.shown.messages.length === count,
    count,
  );
const speaking = () =>
  page.waitForFunction(() => window.shown?.loading && window.texts.length >= 3);
const say = (content, options = {}) =>
  page.evaluate(
    ([content, options]) => {
      const input = content === null ? undefined : { messages: [{ type: "human", content }] };
      window.texts = [];
      void window.stream.submit(input, options);
    },
    [content, options],
  );
const runs = async (thread) => (await fetch(`${api}/threads/${thread}/runs`)).json();

try {
  await open("talker");
  await quiet();
  await say("one");
  await speaking();
  await answered(2);
  tell("tokens", {
    ...(await shown()),
    texts: await page.evaluate(() => window.texts),
    created: await page.evaluate(() => window.created),
  });

  const before = (await shown()).messages;
  await say("two");
  await answered(4);
  await page.waitForFunction(() => window.stream.history.length > 3);
  await page.evaluate(() => {
    const edited = window.stream.messages[2];
    const checkpoint = window.stream.getMessagesMetadata(edited).firstSeenState.parent_checkpoint;
    const input = { messages: [{ type: "human", content: "instead" }] };
    void window.stream.submit(input, { checkpoint });
  });
  await page.waitForFunction(
    () => !window.shown.loading && window.shown.messages[2]?.[1] === "instead"
      && window.shown.branches.includes(2),
  );
  tell("fork", { before, ...(await shown()) });

  await open("talker");
  await quiet();
  await say("stop me, this is a long sentence to be stopped in the middle of");
  await speaking();
  await page.evaluate(() => void window.stream.stop());
  await quiet();
  const stopped = await shown();
  let list = [];
  for (let tries = 0; tries < 100 && !["interrupted", "success"].includes(list[0]?.status); tries++) {
    list = await runs(stopped.thread);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  tell("stop", {
    ...stopped,
    texts: await page.evaluate(() => window.texts),
    runs: list.map((run) => run.status),
  });

  await open("talker");
  await quiet();
  await say("reload while I speak, I go on and on");
  await speaking();
  await page.reload();
  await speaking();
  await answered(2);
  const rejoined = await shown();
  tell("rejoin", {
    ...rejoined,
    texts: await page.evaluate(() => window.texts),
    runs: (await runs(rejoined.thread)).map((run) => run.status),
  });

  await open("asker");
  await quiet();
  await say("ask me");
  await page.waitForFunction(() => !window.shown.loading && window.shown.interrupt);
  const asked = await shown();
  // As Agent Chat UI resumes: with an empty input beside the command.
  await page.evaluate(() => {
    void window.stream.submit({}, {
      command: { resume: "yes" },
      streamMode: ["values"],
      streamSubgraphs: true,
      streamResumable: true,
    });
  });
  await answered(2);
  tell("resume", { question: asked.interrupt, ...(await shown()) });
  tell("errors", { complaints, told: await page.evaluate(() => window.errors) });
} finally {
  await browser.close();
  site.close();
}
