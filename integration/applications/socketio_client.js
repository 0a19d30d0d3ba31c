// Speaks Socket.IO as a browser does. Arguments: URL, transports (a comma between), how often to reconnect.
const { io } = require(process.env.SOCKET_IO_CLIENT);

const [url, transports] = process.argv.slice(2);
const socket = io(url, { transports: transports.split(","), reconnection: false, timeout: 20000 });

const fail = (why) => {
  console.error(String(why));
  process.exit(1);
};
setTimeout(() => fail("it takes too long"), 40000).unref();
socket.on("connect_error", fail);

socket.on("connect", async () => {
  const sent = ["text \u2603", { deep: [1, null, true] }, Buffer.from([0, 255, 10])];
  const answers = [];
  for (const value of sent) {
    const back = await socket.timeout(20000).emitWithAck("echo", value);
    answers.push(Buffer.isBuffer(back) ? [...back] : back);
  }
  const entered = new Promise((resolve) => socket.once("entered", resolve));
  socket.emit("enter", "the room");
  console.log(
    JSON.stringify({
      answers,
      entered: await entered,
      transport: socket.io.engine.transport.name,
    }),
  );
  socket.disconnect();
});
socket.on("disconnect", () => process.exit(0));
