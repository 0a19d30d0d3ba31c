// How a value that arrived is shown.

import { element } from "./elements.js";

/** A value as an element: JSON for what has parts, a word for what can't be seen. */
export function valueOf(value) {
  if (value === "") {
    return element("span", { class: "quiet" }, "(empty)");
  }
  const masked = value === "(masked)";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return element("code", masked ? { class: "quiet" } : {}, text);
}
