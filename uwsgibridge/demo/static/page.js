// The page's entry: each part of it is a module of its own.

import { offerApplications } from "./applications.js";
import { showArrived } from "./arrived.js";
import { joinChat } from "./chat.js";
import { runClock } from "./clock.js";
import { offerStream } from "./stream.js";
import { offerUpload } from "./upload.js";

for (const address of document.querySelectorAll("[data-address]")) {
  address.textContent = new URL(address.dataset.address, document.baseURI).href;
}

offerUpload();
offerStream();
runClock();
joinChat();
const askApplications = offerApplications();
await showArrived();
await askApplications();
