"use strict";
// Everything from the server is written by `textContent`: paths come from anybody.

const EACH_MILLISECONDS = 2000;
const PATIENCE_MILLISECONDS = 6000;
const MOST_RATES = 90;
const LEAST_RATES = 30;

const byId = (id) => document.getElementById(id);
let earlier = null;
let lastAnswer = 0;
let timer = 0;
let running = false;
const rates = [];

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 1) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 360000) return `${(seconds / 3600).toFixed(1)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "-";
  const mebibytes = bytes / 1048576;
  return mebibytes < 1000 ? `${mebibytes.toFixed(1)} MiB` : `${(mebibytes / 1024).toFixed(1)} GiB`;
}

const known = (value) => (value === null || value === undefined ? "-" : String(value));
const decimal = (value) => (value === null ? "-" : value.toFixed(1));

function rate(now, before, key, seconds) {
  if (!before || !seconds || now[key] === null || before[key] === null || before[key] === undefined || now[key] < before[key]) return null;
  return (now[key] - before[key]) / seconds;
}

function quantile(now, before, part) {
  if (!now || !before || now.bounds.length !== before.bounds.length) return null;
  const counts = now.counts.map((count, index) => count - before.counts[index]);
  if (counts.some((count) => count < 0)) return null;
  let rank = part * counts.reduce((sum, count) => sum + count, 0), lower = 0;
  if (!rank) return null;
  for (const [index, upper] of now.bounds.entries()) {
    if (counts[index] && rank <= counts[index]) return lower + (upper - lower) * rank / counts[index];
    rank -= counts[index];
    lower = upper;
  }
  return lower;
}

function fill(table, rows) {
  const body = byId(table).tBodies[0];
  const labels = [...byId(table).tHead.rows[0].cells].map((cell) => cell.textContent);
  body.replaceChildren(...rows.map((cells) => {
    const row = document.createElement("tr");
    cells.forEach(([text, kind], index) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      cell.dataset.label = labels[index];
      if (kind) cell.className = kind;
      row.append(cell);
    });
    return row;
  }));
}

function count(id, value) {
  byId(id).textContent = known(value);
  byId(id).classList.toggle("some", value > 0);
}

function show(status, answer) {
  const same = earlier !== null && earlier.pid === status.pid;
  const before = same ? earlier : {};
  const seconds = same ? status.started_seconds_ago - earlier.started_seconds_ago : 0;
  const workers = new Map((before.workers || []).map((worker) => [worker.pid, worker]));
  document.title = `${status.name}: ${status.state}`;
  byId("name").textContent = status.name;
  byId("about").textContent = `${status.state}, up ${duration(status.started_seconds_ago)}, generation ${status.generation}, uwsgibridge ${status.version}`;
  const perSecond = rate(status, before, "requests", seconds);
  byId("rate").textContent = decimal(perSecond);
  if (perSecond !== null) rates.push(perSecond);
  rates.splice(0, rates.length - MOST_RATES);
  drawRates();
  for (const [id, part] of [["p50", 0.5], ["p99", 0.99]]) byId(id).textContent = duration(quantile(status.latency, before.latency, part));
  byId("in-flight").textContent = known(answer.requests.length + answer.left_out);
  byId("waiting").textContent = known((status.listening || []).reduce((sum, it) => sum + (it.waiting || 0), 0));
  count("errors", status.app_errors);
  count("refused", Object.values(status.refused || {}).reduce((sum, it) => sum + it, 0));
  count("slow", status.slow_requests);
  fill("workers", status.workers.map((worker) => {
    const old = workers.get(worker.pid), cpu = rate(worker, old, "cpu_seconds", seconds);
    return [
      [known(worker.pid)], [known(worker.state), worker.state], [known(worker.generation)], [decimal(rate(worker, old, "requests", seconds))],
      [cpu === null ? "-" : `${(cpu * 100).toFixed(0)} %`], [`${known(worker.in_flight)}/${known(worker.capacity)}`],
      [duration(worker.queue_seconds)], [size(worker.rss_bytes)], [duration(worker.age_seconds)],
    ];
  }));
  fill("requests", answer.requests.map((it) => [
    [duration(it.age_seconds)], [it.phase, it.phase === "stuck" ? "stuck" : ""], [known(it.pid)], [known(it.thread || it.task)],
    [known(it.application)], [`${it.method} ${it.path}`, "request"],
  ]));
  byId("more").textContent = answer.left_out ? `and ${answer.left_out} more` : answer.requests.length ? "" : "No requests are in flight.";
  earlier = status;
}

function drawRates() {
  const highest = Math.max(...rates, 1), step = 120 / Math.max(LEAST_RATES - 1, rates.length - 1);
  const first = 120 - (rates.length - 1) * step;
  const points = rates.map((it, index) => `${(first + index * step).toFixed(1)},${(29 - 27 * it / highest).toFixed(1)}`);
  byId("rates").firstElementChild.setAttribute("points", points.join(" "));
}

function tell(text, kind) {
  byId("connection").textContent = text;
  byId("connection").className = kind;
  document.body.classList.toggle("stale", kind === "lost");
}

async function get(name) {
  const response = await fetch(name, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MILLISECONDS) });
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response.json();
}

async function look() {
  if (running || document.hidden) return;
  running = true;
  try {
    const [status, answer] = await Promise.all([get("status.json"), get("requests.json")]);
    show(status, answer);
    lastAnswer = Date.now();
    tell("live", "");
  } catch (error) {
    const since = lastAnswer ? `, as of ${duration((Date.now() - lastAnswer) / 1000)} ago` : "";
    tell(`connection lost${since}`, "lost");
  } finally {
    running = false;
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, EACH_MILLISECONDS);
  }
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.hidden) tell("paused", "paused");
  else look();
});
look();
