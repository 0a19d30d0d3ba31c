// The server's clock, by server-sent events.

import { byId } from "./elements.js";
import { offerTargets } from "./targets.js";

export function runClock() {
  const target = offerTargets("clock-target", ["page", "fastapi"]);
  const button = byId("clock-button");
  let source = null;

  const stop = (reason) => {
    source?.close();
    source = null;
    button.textContent = "Start the clock";
    byId("clock-status").textContent = reason;
  };
  const start = () => {
    source?.close();
    button.textContent = "Stop the clock";
    source = listen(`${target().base}clock`, stop);
  };

  button.addEventListener("click", () => (source ? stop("stopped") : start()));
  byId("clock-target").addEventListener("change", start);
  // A hidden tab would hold one of the browser's few connections to this server.
  let wasRunning = false;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      wasRunning = source !== null;
      if (wasRunning) {
        stop("paused");
      }
    } else if (wasRunning) {
      start();
    }
  });
  start();
}

function listen(address, stop) {
  const status = byId("clock-status");
  const source = new EventSource(address);
  let last = null;
  let events = 0;

  status.textContent = "connecting";
  source.addEventListener("open", () => {
    status.textContent = "live";
    last = null;
  });
  source.addEventListener("message", ({ data }) => {
    const now = performance.now();
    const { time } = JSON.parse(data);
    events += 1;
    byId("clock").textContent = time.slice(11, 19);
    byId("clock-events").textContent = String(events);
    byId("clock-gap").textContent = last === null ? "–" : `${Math.round(now - last)} ms`;
    last = now;
  });
  source.addEventListener("end", () => stop("ended by the server after ten minutes"));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      stop("refused");
    } else {
      status.textContent = "connecting again";
    }
  });
  return source;
}
