// The cards of the applications, with the state of each, and the facts along the way of a request.

import { byId, element, fillFacts } from "./elements.js";
import { APPLICATIONS } from "./targets.js";

const STATUS_TIMEOUT_MS = 5_000;
const ANSWERS = 3;

/** Put the cards up; the returned function asks the applications and fills them in. */
export function offerApplications() {
  const cards = APPLICATIONS.map((application) => [application, cardOf(application)]);
  byId("applications").replaceChildren(...cards.map(([, { article }]) => article));

  // One after the other: side by side they would wait for each other, and that is not the figure to show.
  return async () => {
    let running = 0;
    for (const [application, card] of cards) {
      running += (await fillCard(card, application)) ? 1 : 0;
    }
    byId("route-applications").textContent = `${running} of ${APPLICATIONS.length} answer`;
  };
}

function cardOf({ key, name, base, about }) {
  const badge = element("span", { class: "badge", role: "status" }, "asking");
  const facts = element("dl", { class: "facts" });
  const title = element("h3", { id: `application-${key}` }, name);
  const article = element(
    "article",
    { class: "card", "aria-labelledby": `application-${key}` },
    element("div", { class: "card-head" }, title, badge),
    element("p", { class: "card-lead" }, about),
    facts,
  );
  if (key !== "page") {
    article.append(element("a", { href: base, class: "more" }, `Open ${new URL(base, document.baseURI).pathname}`));
  } else {
    article.append(element("a", { href: "#arrived-title", class: "more" }, "See what arrived"));
  }
  return { article, badge, facts, title };
}

async function fillCard({ badge, facts, title }, { key, base }) {
  try {
    let response;
    let status;
    let quickest = Infinity;
    // The page is still being drawn meanwhile: a single figure would show that as well.
    for (let number = 0; number < ANSWERS; number += 1) {
      const started = performance.now();
      response = await fetch(`${base}status`, {
        cache: "no-store",
        signal: AbortSignal.timeout(STATUS_TIMEOUT_MS),
      });
      if (!response.ok) {
        throw new Error(`answers ${response.status}`);
      }
      status = await response.json();
      quickest = Math.min(quickest, performance.now() - started);
    }
    title.textContent = status.application;
    badge.textContent = `${status.interface}, up`;
    badge.classList.add("badge-good");
    fillFacts(facts, [
      [`Quickest of ${ANSWERS} answers`, `${quickest.toFixed(1)} ms`],
      [status.interface === "WSGI" ? "Thread" : "Event loop", status.runs_on],
    ]);
    if (key === "page") {
      showRoute(status, response);
    }
    return true;
  } catch (error) {
    badge.textContent = error.name === "TimeoutError" ? "no answer" : "not there";
    badge.classList.add("badge-bad");
    fillFacts(facts, [["Reason", error.message]]);
    return false;
  }
}

function showRoute(status, response) {
  const server = response.headers.get("Server");
  if (server?.startsWith("nginx/")) {
    byId("route-nginx").textContent = `version ${server.slice("nginx/".length)}`;
  }
  byId("route-bridge").textContent = `Python ${status.python}, ${status.runs_on}`;
  byId("version").textContent = status.bridge;
  byId("version").hidden = false;
}
