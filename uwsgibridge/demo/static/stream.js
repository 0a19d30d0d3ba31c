// The streaming answer: each line is marked on a time line at the moment it came in.

import { byId, element } from "./elements.js";
import { offerTargets } from "./targets.js";

const AXIS_MS = 5_250;

export function offerStream() {
  const target = offerTargets("stream-target", ["page", "flask", "fastapi"]);
  const button = byId("stream-button");
  let controller = null;

  button.addEventListener("click", async () => {
    if (controller) {
      controller.abort();
      return;
    }
    controller = new AbortController();
    button.textContent = "Stop the stream";
    const status = byId("stream-status");
    try {
      const lines = await readLines(`${target().base}stream`, controller.signal);
      status.textContent = `Complete, ${lines} lines`;
    } catch (error) {
      status.textContent = error.name === "AbortError" ? "Stopped here; the server sees that too" : error.message;
    }
    controller = null;
    button.textContent = "Start the stream";
  });
}

async function readLines(address, signal) {
  const timeline = byId("timeline");
  const log = byId("stream-log");
  timeline.replaceChildren();
  log.replaceChildren();
  byId("stream-status").textContent = "Waiting for the first line";

  const started = performance.now();
  const response = await fetch(address, { cache: "no-store", signal });
  if (!response.ok) {
    throw new Error(`Refused with status ${response.status}`);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  let count = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) {
      return count;
    }
    const elapsed = performance.now() - started;
    const lines = (pending + value).split("\n");
    pending = lines.pop();
    for (const line of lines) {
      count += 1;
      const mark = element("i");
      // Set through the object model: a style attribute is not allowed by the page's own policy.
      mark.style.left = `${Math.min(100, (100 * elapsed) / AXIS_MS)}%`;
      timeline.append(mark);
      log.append(`+${(elapsed / 1000).toFixed(2)} s  ${line}\n`);
    }
    log.scrollTop = log.scrollHeight;
    byId("stream-status").textContent = `${count} lines so far`;
  }
}
