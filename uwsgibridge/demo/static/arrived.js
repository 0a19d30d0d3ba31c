// What arrived: the uwsgi vars, the WSGI environ and the ASGI scope, each from the application that got it.

import { comparison } from "./comparison.js";
import { byId, element } from "./elements.js";
import { formatBytes } from "./format.js";
import { valueOf } from "./value.js";

const TIMEOUT_MS = 5_000;
const VIEWS = ["compare", "vars", "environ", "scope"];

/** Show it, and again whenever it is asked for; the promise ends when it first stands there. */
export function showArrived() {
  byId("probe").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("filter").addEventListener("input", filter);
  offerTabs();
  return send();
}

async function send() {
  const probe = byId("probe-path").value.replace(/^\/+/, "");
  const [own, environ, scope] = await Promise.all(
    ["vars/", "flask/environ/", "fastapi/scope/"].map((base) => ask(base + probe)),
  );
  const vars = own.value && (own.value.vars ?? null);
  if (vars) {
    showPacket(own.value);
  }

  const columns = [
    { title: "uwsgi vars", by: "as the bridge read them", entries: vars },
    { title: "WSGI environ", by: "as Flask saw it", entries: environ.value },
    { title: "ASGI scope", by: "as FastAPI saw it", entries: scope.value },
  ];
  const notices = [
    own.error && `The vars could not be fetched: ${own.error}.`,
    own.value && !vars && "This server passes on no uwsgi vars: the request didn't come over the uwsgi protocol.",
    environ.error && `The environ could not be fetched: ${environ.error}.`,
    scope.error && `The scope could not be fetched: ${scope.error}.`,
  ].filter(Boolean);

  byId("panel-compare").replaceChildren(...notices.map(noticeOf), comparison(columns));
  byId("panel-vars").replaceChildren(listing(vars));
  byId("panel-environ").replaceChildren(listing(environ.value));
  byId("panel-scope").replaceChildren(listing(scope.value && flat(scope.value)));
  byId("arrived-status").textContent = "The tables are up to date.";
  filter();
}

async function ask(address) {
  try {
    const response = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) {
      return { error: `status ${response.status}` };
    }
    return { value: await response.json() };
  } catch (error) {
    return { error: error.message };
  }
}

function showPacket({ vars, packet_bytes: packetBytes }) {
  byId("route-http").textContent = vars.SERVER_PROTOCOL ?? "HTTP";
  byId("route-uwsgi").textContent = `uwsgi, ${Object.keys(vars).length} vars`;
  byId("route-uwsgi").title = `one packet of ${formatBytes(packetBytes)}`;
  if (vars.REMOTE_ADDR) {
    byId("route-browser").textContent = `at ${vars.REMOTE_ADDR}`;
  }
}

const noticeOf = (text) => element("p", { class: "notice" }, text);

function flat(scope) {
  const { headers = [], extensions = {}, ...rest } = scope;
  const entries = Object.entries(rest);
  entries.push(...headers.map(([name, value]) => [`headers: ${name}`, value]));
  for (const [name, extension] of Object.entries(extensions)) {
    const keys = Object.keys(extension);
    const isVars = name === "uwsgi" && extension.vars;
    entries.push([`extensions: ${name}`, isVars ? `vars (${Object.keys(extension.vars).length})` : keys.join(", ")]);
  }
  return Object.fromEntries(entries);
}

function listing(entries) {
  if (!entries) {
    return noticeOf("Nothing to show.");
  }
  const rows = Object.entries(entries).map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, valueOf(value))),
  );
  return element("table", { class: "listing" }, element("tbody", {}, ...rows));
}

function filter() {
  const wanted = byId("filter").value.trim().toLowerCase();
  for (const row of document.querySelectorAll(".panel tbody tr")) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
  }
}

// The keys are those of the ARIA Authoring Practices, "Tabs".
function offerTabs() {
  const tabs = VIEWS.map((view) => byId(`tab-${view}`));
  const select = (chosen) => {
    for (const tab of tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const next = {
        ArrowRight: (index + 1) % tabs.length,
        ArrowLeft: (index + tabs.length - 1) % tabs.length,
        Home: 0,
        End: tabs.length - 1,
      }[event.key];
      if (next !== undefined) {
        event.preventDefault();
        tabs[next].focus();
        select(tabs[next]);
      }
    });
  });
}
