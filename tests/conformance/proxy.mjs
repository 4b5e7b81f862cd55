// A TCP proxy in front of the worker that cuts responses where a test wants it. A route is a prefix of the
// path, so that many clients, each with a plan of its own, go through one port (Chromium keeps one page).
import { once } from "node:events";
import net from "node:net";

const HEAD_END = "\r\n\r\n";

// One way through the proxy, and what came along it.
export class Route {
  requests = [];  // {line, at, cutAt, head, body, start, tail}; `body` counts the bytes that were passed on

  // `plan(n)` says what is done to the n-th response, counted from 0: undefined, or
  // {after, how}: `after` bytes of the body pass, or its first block ("opening"), then comes a FIN or an
  // RST; or
  // {refuse: true}: an RST before any answer.
  constructor(prefix, port, plan = () => undefined) {
    this.prefix = prefix;
    this.origin = `http://127.0.0.1:${port}`;
    this.plan = plan;
  }

  url(target) { return `${this.origin}/${this.prefix}${target}`; }

  // Ends what is open now, with RST.
  drop() { for (const request of this.requests) request.drop(); }

  // How long the client waited after each cut, in milliseconds.
  get waits() {
    return this.requests.slice(1).flatMap(({ at }, index) => {
      const { cutAt } = this.requests[index];
      return cutAt === undefined ? [] : [at - cutAt];
    });
  }
}

export class Proxy {
  #server = net.createServer({ noDelay: true }, (socket) => this.#serve(socket));
  #routes = new Map();
  #target;

  // `target` gives the port to connect to, anew for each connection.
  constructor(target) { this.#target = target; }

  async start() {
    this.#server.listen(0, "127.0.0.1", 1024);
    await once(this.#server, "listening");
  }
  get port() { return this.#server.address().port; }
  stop() { this.#server.close(); }

  route(plan) {
    const route = new Route(`~${this.#routes.size}`, this.port, plan);
    this.#routes.set(route.prefix, route);
    return route;
  }

  #serve(client) {
    const server = net.connect({ port: this.#target(), host: "127.0.0.1", noDelay: true });
    let request;        // the one that is being answered; one for each connection, see below
    let cut;
    let received = Buffer.alloc(0);
    let head = "";      // of the response, while it is incomplete
    let inBody = false;
    let end = Infinity; // of what is passed on of the body

    client.on("data", (chunk) => {
      received = Buffer.concat([received, chunk]);
      const stop = received.indexOf(HEAD_END);
      if (request || stop < 0) return;
      const [line, ...lines] = received.toString("latin1", 0, stop).split("\r\n");
      const [method, target, version] = line.split(" ");
      const prefix = target.match(/^\/(~\d+)\//)?.[1];
      const route = this.#routes.get(prefix);
      request = {
        line, at: performance.now(), cutAt: undefined, head: "", body: 0, start: "", tail: "",
        drop: () => {
          request.cutAt ??= performance.now();
          client.resetAndDestroy();
        },
      };
      if (route) {
        cut = route.plan(route.requests.length, request);
        route.requests.push(request);
        if (cut?.refuse) return request.drop();
        if (typeof cut?.after === "number") end = cut.after;
      }
      // Only the first request of a connection is looked at, so there must not be another one.
      const kept = lines.filter((text) => !/^connection:/i.test(text));
      const passed = [`${method} ${route ? target.slice(prefix.length + 1) : target} ${version}`, ...kept, "Connection: close"];
      server.write(Buffer.concat([Buffer.from(passed.join("\r\n") + HEAD_END, "latin1"), received.subarray(stop + 4)]));
    });

    server.on("data", (chunk) => {
      if (!request || request.cutAt !== undefined) return;
      if (!inBody) {
        head += chunk.toString("latin1");
        const stop = head.indexOf(HEAD_END);
        if (stop < 0) return;
        request.head = head.slice(0, stop);
        inBody = true;
        client.write(head.slice(0, stop + 4), "latin1");
        chunk = Buffer.from(head.slice(stop + 4), "latin1");
      }
      if (cut?.after === "opening" && chunk.includes("\n\n")) end = request.body + chunk.indexOf("\n\n") + 2;
      const room = end - request.body;
      const passed = chunk.length > room ? chunk.subarray(0, room) : chunk;
      request.body += passed.length;
      if (request.start.length < 256) request.start += passed.toString("latin1", 0, 256);
      request.tail = (request.tail + passed.toString("latin1")).slice(-16);
      if (request.body < end) {
        if (passed.length > 0 && !client.write(passed)) {
          server.pause();
          client.once("drain", () => server.resume());
        }
        return;
      }
      request.cutAt = performance.now();
      client.write(passed, () => (cut.how === "rst" ? client.resetAndDestroy() : client.end()));
      server.destroy();
    });

    // Nobody there, or killed: the client sees what it would see without a proxy in between.
    server.on("error", () => client.resetAndDestroy());
    server.on("end", () => client.end());
    client.on("error", () => server.destroy());
    client.on("end", () => server.destroy());
    client.on("close", () => server.destroy());
  }
}
