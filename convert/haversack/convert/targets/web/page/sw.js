/**
 * Keeps the page working without a network, and cross-origin isolated without a server's help.
 *
 * All files are fetched when this version is installed and held to their SHA-256, so that what is cached is whole and of
 * one version; from then on they come from the cache. Every response carries COOP and COEP, without which a browser
 * gives no threads and a coarse timer. A new version waits until the page asks for it.
 */
const VERSION = "__VERSION__";
const FILES = __FILES__;

const PREFIX = `haversack ${new URL(self.registration.scope).pathname} `;
const CACHE = PREFIX + VERSION;

// Servers that know no .mjs or .wasm would have a browser refuse them.
const TYPES = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  mjs: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  json: "application/json",
  webmanifest: "application/manifest+json",
  svg: "image/svg+xml",
  png: "image/png",
  wasm: "application/wasm",
};

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("message", (event) => {
  if (event.data === "update") self.skipWaiting();
});
self.addEventListener("fetch", (event) => {
  const name = nameOf(event.request);
  if (name !== null) event.respondWith(answer(event.request, name));
});

async function install() {
  const cache = await caches.open(CACHE);
  try {
    await Promise.all(Object.entries(FILES).map(([name, digest]) => keep(cache, name, digest)));
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
}

async function keep(cache, name, digest) {
  const response = await fetch(new URL(name, self.registration.scope), { cache: "no-cache" });
  if (!response.ok) throw new Error(`${name}: the server says ${response.status}`);
  const content = await response.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  if (Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") !== digest) {
    throw new Error(`${name} is not the file of version ${VERSION}`);
  }
  await cache.put(new URL(name, self.registration.scope), new Response(content, { headers: headers(name) }));
}

function headers(name) {
  return {
    "Content-Type": TYPES[name.split(".").pop()] ?? "application/octet-stream",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
  };
}

async function activate() {
  for (const key of await caches.keys()) {
    if (key.startsWith(PREFIX) && key !== CACHE) await caches.delete(key);
  }
  await self.clients.claim();
}

/** The file of the folder that a request asks for; null for everything else, which this leaves alone. */
function nameOf(request) {
  const scope = self.registration.scope;
  if (request.method !== "GET" || !request.url.startsWith(scope)) return null;
  const name = decodeURIComponent(request.url.slice(scope.length).split(/[?#]/)[0]) || "index.html";
  return name in FILES ? name : null;
}

async function answer(request, name) {
  const cache = await caches.open(CACHE);
  return (await cache.match(new URL(name, self.registration.scope))) ?? fetch(request);
}
