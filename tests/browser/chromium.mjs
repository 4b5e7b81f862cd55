// Debian's Chromium, driven by playwright-core, which is installed in this folder.
import { accessSync, constants } from "node:fs";
import path from "node:path";

function find() {
  const named = process.env.CHROMIUM ?? "chromium";
  const places = named.includes("/") ? [named] : (process.env.PATH ?? "").split(":").map((folder) => path.join(folder, named));
  return places.find((place) => {
    try { accessSync(place, constants.X_OK); return true; } catch { return false; }
  });
}

const executablePath = find();

// Why a test is skipped, or undefined.
export const notInstalled = executablePath ? undefined
  : "skipped: Chromium is not installed (scripts/prepare --tests installs it on Debian; CHROMIUM=… names another place)";

// `more`: arguments beside the usual ones.
export async function launch(more = []) {
  const { chromium } = await import("playwright-core").catch(() => {
    throw new Error("tests/browser/node_modules is missing or stale: run scripts/node-tools");
  });
  return chromium.launch({
    executablePath,
    args: [
      "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
      ...(process.getuid() === 0 ? ["--no-sandbox"] : []),
      ...more,
    ],
  });
}
