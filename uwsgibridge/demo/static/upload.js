// The upload: a file or random bytes as the request's body, with progress, checked against a hash made here.

import { byId, element, fillFacts } from "./elements.js";
import { formatBytes } from "./format.js";
import { offerTargets } from "./targets.js";

const SAMPLE_BYTES = 8 * 1024 * 1024;
const RANDOM_BYTES_AT_ONCE = 65_536; // what crypto.getRandomValues() gives in one call
const LARGEST_HASHED_BYTES = 64 * 1024 * 1024; // crypto.subtle wants it all in memory

export function offerUpload() {
  const target = offerTargets("upload-target", ["page", "flask", "fastapi"]);
  const input = byId("file");
  const drop = byId("drop");

  input.addEventListener("change", () => {
    if (input.files.length > 0) {
      upload(input.files[0], input.files[0].name, target());
      input.value = "";
    }
  });
  byId("sample").addEventListener("click", () => upload(sample(), "random bytes", target()));

  for (const type of ["dragenter", "dragover"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add("drop-over");
    });
  }
  for (const type of ["dragleave", "drop"]) {
    drop.addEventListener(type, () => drop.classList.remove("drop-over"));
  }
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) {
      upload(file, file.name, target());
    }
  });
}

function sample() {
  const bytes = new Uint8Array(SAMPLE_BYTES);
  for (let start = 0; start < SAMPLE_BYTES; start += RANDOM_BYTES_AT_ONCE) {
    crypto.getRandomValues(bytes.subarray(start, start + RANDOM_BYTES_AT_ONCE));
  }
  return new Blob([bytes]);
}

let running = null;

function upload(blob, name, application) {
  running?.abort();
  const status = byId("upload-status");
  const progress = byId("upload-progress");
  const hashHere = sha256(blob).catch(() => null); // a file that can't be read fails the request as well
  // fetch() tells nothing of how far a request's body has got.
  const request = new XMLHttpRequest();
  running = request;
  fillFacts(byId("receipt"), []);
  progress.value = 0;
  status.textContent = `Sending ${name}, ${formatBytes(blob.size)}`;

  request.upload.addEventListener("progress", ({ loaded, total }) => {
    progress.value = total ? loaded / total : 1;
    status.textContent = `${formatBytes(loaded)} of ${formatBytes(total)} sent`;
  });
  request.addEventListener("load", () => {
    if (request.status === 200) {
      progress.value = 1;
      status.textContent = `${formatBytes(blob.size)} sent, read by ${application.name}`;
      showReceipt(JSON.parse(request.responseText), blob, hashHere);
    } else if (request.status === 413) {
      status.textContent = "Refused, 413: larger than Nginx's client_max_body_size allows";
    } else {
      status.textContent = `Refused with status ${request.status}`;
    }
  });
  request.addEventListener("error", () => {
    status.textContent = "Broken off by the other side; is it larger than Nginx's client_max_body_size?";
  });
  request.addEventListener("abort", () => {
    status.textContent = "Stopped";
  });
  request.open("POST", `${application.base}upload`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.send(blob);
}

async function showReceipt(receipt, blob, hashHere) {
  const expected = await hashHere;
  const isSame = receipt.size_bytes === blob.size && (expected === null || expected === receipt.sha256);
  const verdict = expected === null ? "not compared" : isSame ? "same as the browser's" : "NOT the browser's";
  fillFacts(byId("receipt"), [
    ["Read by the application", `${formatBytes(receipt.size_bytes)} in ${receipt.chunks} pieces`],
    ["Rate of reading", `${formatBytes(receipt.bytes_per_second)}/s`],
    [
      "SHA-256",
      element("code", { class: "hash", title: receipt.sha256 }, `${receipt.sha256.slice(0, 16)}…`),
      element("span", { class: isSame ? "verdict verdict-good" : "verdict verdict-bad" }, verdict),
    ],
  ]);
}

/** The hash as hexadecimal digits, or null where the browser can't make it (no https and not localhost, too large). */
async function sha256(blob) {
  if (!crypto.subtle || blob.size > LARGEST_HASHED_BYTES) {
    return null;
  }
  const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
