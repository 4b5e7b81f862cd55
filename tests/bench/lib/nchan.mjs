// nginx with Nchan on a free port: /pub/N publishes, /sub/N subscribes.
import { mkdir, writeFile } from "node:fs/promises";
import { existsSync, readFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { Process, childrenOf, run, sleep } from "./processes.mjs";

export const MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so";

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Nchan {
  static async start(folder) {
    if (!existsSync(MODULE)) throw new Error(`${MODULE} is missing: Debian's libnginx-mod-nchan`);
    const nchan = new Nchan();
    nchan.port = await freePort();
    const home = path.join(folder, "nchan");
    await mkdir(home, { recursive: true });
    await writeFile(path.join(home, "nginx.conf"), `
load_module ${MODULE};
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid ${home}/pid;
error_log ${home}/error.log warn;
events { worker_connections 32768; }
http {
  access_log off;
  client_body_temp_path ${home}/body;
  proxy_temp_path ${home}/proxy;
  fastcgi_temp_path ${home}/fastcgi;
  uwsgi_temp_path ${home}/uwsgi;
  scgi_temp_path ${home}/scgi;
  keepalive_requests 100000000;
  nchan_shared_memory_size 512M;
  server {
    listen 127.0.0.1:${nchan.port} backlog=4096;
    location ~ ^/pub/(\\d+)$ { nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 100; }
    location ~ ^/sub/(\\d+)$ { nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest; }
  }
}
`);
    nchan.process = new Process("nginx", ["-c", path.join(home, "nginx.conf"), "-p", home], { name: "nginx" });
    for (;;) {
      if (nchan.process.code !== undefined) throw new Error(`nginx ended:\n${nchan.process.output}`);
      const up = await new Promise((resolve) => {
        const socket = net.connect(nchan.port, "127.0.0.1", () => { socket.destroy(); resolve(true); });
        socket.on("error", () => resolve(false));
      });
      if (up) {
        // One worker; the other children keep its cache, if any.
        const workers = childrenOf(nchan.process.pid).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("worker process"));
        if (workers.length === 1) return Object.assign(nchan, { worker: workers[0] });
      }
      await sleep(20);
    }
  }
  static async version() {
    const found = await run("dpkg-query", ["-W", "-f", "${Version}", "libnginx-mod-nchan"]).catch(() => "");
    return found.trim() || "unknown";
  }
  stop() { return this.process.end("SIGTERM"); }
}
