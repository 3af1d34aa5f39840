// The peer: one Restate handler that calls the same upstream and gives its answer on, once per idempotency key.
//   node service.mjs UPSTREAM PORT
import http from "node:http";
import * as restate from "@restatedev/restate-sdk";

const [upstream, port] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });

function call(body) {
  const data = JSON.stringify(body);
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(data) };
  return new Promise((resolve, reject) => {
    const request = http.request(upstream, { method: "POST", agent, headers }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve(JSON.parse(Buffer.concat(parts).toString())));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(data);
  });
}

const tool = restate.service({
  name: "tool",
  handlers: { append: async (ctx, body) => await ctx.run(() => call(body)) },
});
restate.serve({ services: [tool], port: Number(port), logger: () => {} });
