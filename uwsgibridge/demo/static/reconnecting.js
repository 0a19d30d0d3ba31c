// A WebSocket that comes back: what ends it is followed by another, after waits that grow.

const CONNECT_TIMEOUT_MS = 10_000;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 15_000;

const NORMAL = 1000;
const NO_STATUS = 1005;
const ABNORMAL = 1006;
const POLICY_VIOLATION = 1008;
const TOO_BIG = 1009;

/**
 * Open a WebSocket and keep it open until it is stopped.
 *
 * onState gets "connecting", "open", "waiting" with { why, waitSeconds }, or "stopped", with { why } where the
 * server wants no more of it. The returned start() connects at once, whatever the state; send() says whether there
 * is a connection to send by.
 */
export function keepOpen(address, { onState, onMessage }) {
  let socket = null;
  let timer = null;
  let failures = 0;

  const drop = () => {
    clearTimeout(timer);
    timer = null;
    const dropped = socket;
    socket = null; // what it still says is not heard
    dropped?.close(NORMAL);
  };
  const start = () => {
    drop();
    onState("connecting");
    const opened = new WebSocket(address);
    socket = opened;
    timer = setTimeout(() => lose({ reason: `no answer in ${CONNECT_TIMEOUT_MS / 1000} seconds` }), CONNECT_TIMEOUT_MS);
    opened.addEventListener("open", () => {
      if (socket === opened) {
        clearTimeout(timer);
        onState("open");
      }
    });
    opened.addEventListener("message", ({ data }) => {
      if (socket === opened) {
        failures = 0; // not before: a server that is full opens, and closes at once
        onMessage(JSON.parse(data));
      }
    });
    opened.addEventListener("close", (event) => {
      if (socket === opened) {
        lose(event);
      }
    });
  };
  const stop = (why) => {
    drop();
    onState("stopped", { why });
  };
  const lose = ({ code, reason }) => {
    const why = describe(code, reason);
    if (code === POLICY_VIOLATION || code === TOO_BIG) {
      stop(why); // the next time would end like this one
      return;
    }
    drop();
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
    failures += 1;
    // Not all browsers at the same moment, when a server comes back.
    const waitMs = longest * (0.5 + Math.random() / 2);
    timer = setTimeout(start, waitMs);
    onState("waiting", { why, waitSeconds: Math.ceil(waitMs / 1000) });
  };

  const isOpen = () => socket?.readyState === WebSocket.OPEN;
  addEventListener("online", () => {
    const isWaiting = timer !== null && socket === null;
    if (isWaiting) {
      start(); // the network is back
    }
  });
  start();
  return {
    start,
    stop,
    send: (message) => {
      if (isOpen()) {
        socket.send(JSON.stringify(message));
      }
      return isOpen();
    },
  };
}

function describe(code, reason) {
  if (reason) {
    return reason;
  }
  if (code === ABNORMAL || code === undefined) {
    return "no connection to the server";
  }
  return code === NORMAL || code === NO_STATUS ? "closed by the server" : `closed by the server with ${code}`;
}
