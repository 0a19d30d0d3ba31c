// The chat: what everybody on this page says, over one WebSocket each.

import { byId, element } from "./elements.js";
import { keepOpen } from "./reconnecting.js";

const MOST_ENTRIES = 200;
const TIME_FORMAT = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };

export function joinChat() {
  const sentAt = []; // of each message whose echo has not come yet
  let ownName = "";
  let whyLost = "";

  const onState = (state, { why, waitSeconds } = {}) => {
    const isOpen = state === "open";
    if (isOpen) {
      whyLost = "";
      chat.send({ type: "name", name: ownName });
    } else {
      sentAt.length = 0;
      byId("chat-present").textContent = "–";
    }
    showState(state, waitSeconds);
    if (why && why !== whyLost) {
      whyLost = why; // said once, not at each try
      note(`Not connected: ${why}.`, "chat-lost");
    }
  };
  const onMessage = (message) => {
    const isOwn = message.name === ownName;
    switch (message.type) {
      case "named":
        ownName = message.name;
        byId("chat-name").value = ownName;
        break;
      case "joined":
        note(isOwn ? ["You are here as ", nameOf(message.name)] : [nameOf(message.name), " joined"]);
        break;
      case "renamed":
        note([nameOf(message.before), " is now ", nameOf(message.name)]);
        break;
      case "left":
        note([nameOf(message.name), " left"]);
        break;
      case "said":
        if (isOwn && sentAt.length > 0) {
          byId("chat-trip").textContent = `${(performance.now() - sentAt.shift()).toFixed(1)} ms`;
        }
        say(message, isOwn);
        break;
    }
    if (message.present !== undefined) {
      byId("chat-present").textContent = message.present === 1 ? "you alone" : `${message.present} people`;
    }
  };

  const address = new URL("chat", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const chat = keepOpen(address, { onState, onMessage });

  byId("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = byId("chat-text");
    if (input.value.trim() === "") {
      return;
    }
    if (chat.send({ type: "say", text: input.value })) {
      sentAt.push(performance.now());
      input.value = "";
    } else {
      note("Not sent: there is no connection. Your message is still in its field.", "chat-lost");
    }
  });
  byId("chat-name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = byId("chat-name").value;
    if (!chat.send({ type: "name", name: wanted })) {
      ownName = wanted; // for when it is connected again
    }
  });
  byId("chat-button").addEventListener("click", () => {
    if (byId("chat-button").dataset.does === "leave") {
      chat.stop();
      note("You left.");
    } else {
      chat.start();
    }
  });
}

function showState(state, waitSeconds) {
  const badge = byId("chat-state");
  badge.textContent = {
    connecting: "connecting",
    open: "live",
    waiting: `disconnected, next try in ${waitSeconds} s`,
    stopped: "disconnected",
  }[state];
  badge.classList.toggle("badge-good", state === "open");
  badge.classList.toggle("badge-bad", state === "waiting" || state === "stopped");
  byId("chat-log").classList.toggle("chat-off", state !== "open");
  byId("chat-send").setAttribute("aria-disabled", String(state !== "open"));
  const button = byId("chat-button");
  button.dataset.does = state === "open" || state === "connecting" ? "leave" : "join";
  button.textContent = { waiting: "Try now", stopped: "Join the chat" }[state] ?? "Leave the chat";
}

function say({ name, text, time }, isOwn) {
  const saidAt = new Date(time);
  add(
    element(
      "p",
      { class: isOwn ? "chat-said chat-own" : "chat-said" },
      element("time", { datetime: time }, saidAt.toLocaleTimeString([], TIME_FORMAT)),
      " ",
      nameOf(name),
      " ",
      element("bdi", { class: "chat-text" }, text),
    ),
  );
}

function note(parts, extraClass = "") {
  add(element("p", { class: `chat-note ${extraClass}` }, ...[parts].flat()));
}

// An element of its own direction: a name in Arabic leaves the words beside it where they are.
const nameOf = (name) => element("bdi", { class: "chat-who" }, name);

function add(entry) {
  const log = byId("chat-log");
  // Who has scrolled up to read stays there.
  const wasAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8;
  log.append(entry);
  while (log.childElementCount > MOST_ENTRIES) {
    log.firstElementChild.remove();
  }
  if (wasAtEnd) {
    log.scrollTop = log.scrollHeight;
  }
}
