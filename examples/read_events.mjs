// Read the events of a running server in JavaScript: Node 22 or newer, or any browser.
//
//   facestage live 0                        in one terminal
//   node examples/read_events.mjs           in another (Node 20: node --experimental-websocket)
//
// The token of a server that has one: FACESTAGE_LIVE_TOKEN in the environment.

/** Listen to a server, connect again after a loss, and ask for the events that were missed.
 *  Ends with `bye`, an error of the server, or when `onStage` returns false. */
export function listen(address, { token = "", onStage }) {
  let seen = null; // epoch and number of the last event

  return new Promise((resolve, reject) => {
    function connect() {
      let over = false;
      const socket = new WebSocket(address);
      const send = (type, data = {}) => socket.send(JSON.stringify({ v: 1, type, data }));
      const end = (settle) => {
        over = true;
        socket.close();
        settle();
      };

      socket.onopen = () => {
        if (token) send("auth", { token });
        send("subscribe", seen ? { topics: [], since: seen } : { topics: [] });
      };
      socket.onmessage = ({ data: text }) => {
        const { type, stream, epoch, seq, data } = JSON.parse(text);
        if (over) return;
        if (type === "heartbeat") send("heartbeat");
        if (Number.isInteger(seq)) seen = { epoch, seq };
        if (type === "error") end(() => reject(new Error(data.message)));
        if (type === "bye") end(resolve);
        if (type === "stage.enter" && onStage(stream, data) === false) end(resolve);
      };
      socket.onclose = () => {
        if (!over) setTimeout(connect, 1000);
      };
    }
    connect();
  });
}

if (typeof process !== "undefined" && process.argv[1]?.endsWith("read_events.mjs")) {
  const [address = "ws://127.0.0.1:8765/ws", most = "Infinity"] = process.argv.slice(2);
  let printed = 0;
  await listen(address, {
    token: process.env.FACESTAGE_LIVE_TOKEN,
    onStage(stream, stage) {
      console.log(stream, stage.text, stage.reason);
      return ++printed < Number(most);
    },
  });
}
