// The three applications, and the choice between them in a card.

import { byId, element } from "./elements.js";

export const APPLICATIONS = [
  { key: "page", name: "Plain Python", base: "./", about: "An async function, no framework: this page." },
  { key: "flask", name: "Flask", base: "flask/", about: "WSGI, in a pool of threads. Has a form to try." },
  { key: "fastapi", name: "FastAPI", base: "fastapi/", about: "ASGI, on the bridge's event loop." },
];

/** Put one radio button for each application into a fieldset; returns a function that gives the chosen one. */
export function offerTargets(fieldsetId, keys) {
  const applications = APPLICATIONS.filter(({ key }) => keys.includes(key));
  const fieldset = byId(fieldsetId);
  applications.forEach(({ key, name }, index) => {
    const radio = element("input", { type: "radio", name: fieldsetId, value: key, class: "visually-hidden" });
    radio.checked = index === 0;
    fieldset.append(element("label", {}, radio, element("span", {}, name)));
  });
  return () => {
    const chosen = fieldset.querySelector("input:checked").value;
    return applications.find(({ key }) => key === chosen);
  };
}
