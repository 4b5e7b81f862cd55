// `curl`, as a script would use it: lines are put together, and whoever is cut off comes back with the id of
// the last whole event.
import { spawn } from "node:child_process";

export const takesHeaders = true;
export const parallel = 24;

export function open(url, { headers = {}, lastEventId } = {}, reader) {
  let last = lastEventId;
  let retry = 1000;
  let child;
  let timer;
  let closed = false;

  function connect() {
    const named = { ...headers, ...(last ? { "Last-Event-ID": last } : {}) };
    child = spawn("curl", [
      "--no-buffer", "--silent", "--show-error", "--fail-with-body",
      ...Object.entries(named).flatMap(([name, value]) => ["--header", `${name}: ${value}`]),
      url,
    ], { stdio: ["ignore", "pipe", "pipe"] });
    let rest = "";
    let event = {};
    const line = (text) => {
      if (text === "") {
        if (event.id) last = event.id;
        if (event.data) reader.event({ type: event.event ?? "message", data: event.data.join("\n"), id: event.id ?? "" });
        event = {};
        return;
      }
      const [, field, value] = text.match(/^([^:]*)(?:: ?(.*))?$/s);
      if (field === "data") (event.data ??= []).push(value ?? "");
      else if (field === "retry") retry = Number(value);
      else if (field) event[field] = value ?? "";
    };
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text) => { errors += text; });
    child.stdout.setEncoding("utf8").on("data", (text) => {
      if (reader.states.at(-1) !== "open") reader.state("open");
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      lines.forEach(line);
    });
    child.on("close", (code) => {
      if (closed) return;
      const status = Number(errors.match(/returned error: (\d+)/)?.[1]) || undefined;
      reader.error({ status, message: errors.trim() + rest });
      if (code === 22) return reader.state("closed");
      reader.state("connecting");
      timer = setTimeout(connect, retry);
    });
  }

  connect();
  return reader.closes(() => {
    closed = true;
    clearTimeout(timer);
    child.kill();
  });
}
