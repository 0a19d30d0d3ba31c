// Building and finding elements. Text goes in as text: nothing from a request is ever read as HTML.

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Fill a <dl> with [term, description] pairs. */
export function fillFacts(list, facts) {
  list.replaceChildren(
    ...facts.map(([term, ...description]) =>
      element("div", {}, element("dt", {}, term), element("dd", {}, ...description)),
    ),
  );
}
