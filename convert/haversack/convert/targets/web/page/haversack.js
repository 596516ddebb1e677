/**
 * Runs a model that Haversack packed for the web, with ONNX Runtime's WebAssembly build; nothing leaves the origin.
 *
 *     import { load } from "./haversack.js";
 *     const model = await load("./");                       // the folder's URL
 *     const { probabilities } = await model.run({ image: new Float32Array(64) });
 *     const check = await model.selfTest();                 // golden vectors: check.ok
 *     const speed = await model.bench(200);                 // speed.p50, speed.p95, speed.p99 in milliseconds
 *
 * Types are in haversack.d.ts.
 */

/** What went wrong, in one line that a user can be shown. */
export class HaversackError extends Error {
  constructor(message, cause) {
    super(message, { cause });
    this.name = "HaversackError";
  }
}

/** The array that holds each element type (NumPy's names). */
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

/** The engines that were imported, by folder: two models of one folder share one. */
const engines = new Map();

/**
 * Load a model.
 *
 * @param source The URL of a web folder, or the files themselves (`embedded()` in a single-file page).
 * @param options `threads`: how many at most; more than one needs cross-origin isolation. By default the machine's
 *     cores, at most 4.
 */
export async function load(source = "./", options = {}) {
  const began = performance.now();
  const files = typeof source === "string" || source instanceof URL ? folder(source) : source;
  const manifest = parsed(await files.bytes("manifest.json"));
  const threads = threadsFor(options.threads);
  const [engine, content] = await Promise.all([
    importEngine(files, manifest, threads),
    files.bytes(manifest.model.file),
  ]);
  await verified(content, manifest, manifest.model.file);
  let session;
  try {
    session = await engine.InferenceSession.create(new Uint8Array(content), { executionProviders: ["wasm"] });
  } catch (error) {
    throw new HaversackError(`${manifest.name}: the engine rejects the model: ${error.message}`, error);
  }
  return new Model(files, manifest, engine, session, threads, performance.now() - began);
}

/** A model that is loaded; made by `load`. */
export class Model {
  #files;
  #engine;
  #session;
  #ran = false;

  constructor(files, manifest, engine, session, threads, loadMs) {
    this.#files = files;
    this.#engine = engine;
    this.#session = session;
    this.manifest = manifest;
    this.name = manifest.name;
    this.inputs = manifest.inputs;
    this.outputs = manifest.outputs;
    this.labels = manifest.labels;
    this.threads = threads;
    this.isolated = globalThis.crossOriginIsolated === true;
    this.engine = `${manifest.engine.name} ${manifest.engine.version}`;
    this.loadMs = loadMs;
  }

  /**
   * Run once. Each input, by name, is a typed array, an array of numbers (nested or flat), or `{data, shape}`; a model
   * of one input also takes it alone. Gives `{name: {data, shape, dtype}}`.
   */
  async run(inputs) {
    const results = await this.#call(this.#feeds(inputs));
    if (!this.#ran) performance.mark("haversack first prediction"); // for the browser's own timeline
    this.#ran = true;
    const outputs = {};
    for (const { name } of this.outputs) {
      const tensor = results[name];
      outputs[name] = { data: tensor.data, shape: [...tensor.dims], dtype: tensor.type };
    }
    return outputs;
  }

  /** The golden vectors: inputs, and what the model gave for them where it was made. */
  async golden() {
    const { file, vectors } = this.manifest.golden;
    if (!file) return [];
    const content = await this.#files.bytes(file);
    await verified(content, this.manifest, file);
    const read = (placed) =>
      Object.fromEntries(
        Object.entries(placed).map(([name, { dtype, shape, offset }]) => [
          name,
          { data: new ARRAYS[dtype](content, offset, count(shape)), shape, dtype },
        ]),
      );
    return vectors.map(({ inputs, outputs }) => ({ inputs: read(inputs), outputs: read(outputs) }));
  }

  /** Run the golden vectors and compare; `ok` is false without any. */
  async selfTest() {
    const { absolute, relative } = this.manifest.golden.tolerance;
    const results = [];
    for (const [vector, { inputs, outputs }] of (await this.golden()).entries()) {
      const found = await this.run(inputs);
      for (const [output, wanted] of Object.entries(outputs)) {
        const allowed = absolute + relative * largest(numbers(wanted));
        const difference = distance(found[output], wanted);
        results.push({ vector, output, difference, allowed, ok: difference <= allowed });
      }
    }
    const furthest = (a, b) => (b.difference - b.allowed > a.difference - a.allowed ? b : a);
    return {
      ok: results.length > 0 && results.every((result) => result.ok),
      vectors: this.manifest.golden.vectors.length,
      worst: results.length ? results.reduce(furthest) : null,
      results,
    };
  }

  /**
   * Latency of `runs` calls in milliseconds, after a tenth as many that are not counted, on the first golden vector
   * (zeros without one). `resolution` is the timer's own: nothing below it means anything.
   */
  async bench(runs = 200) {
    if (!(Number.isInteger(runs) && runs > 0)) throw new HaversackError(`bench: ${runs} is no number of runs`);
    const [vector] = await this.golden();
    const feeds = this.#feeds(vector ? vector.inputs : this.zeros());
    for (let i = 0; i < Math.max(5, runs / 10); i++) await this.#call(feeds);
    const times = new Float64Array(runs);
    let breath = performance.now();
    for (let i = 0; i < runs; i++) {
      const start = performance.now();
      await this.#call(feeds);
      const stop = performance.now();
      times[i] = stop - start;
      if (stop - breath > 50) {
        await new Promise((done) => setTimeout(done)); // lets the page draw; not timed
        breath = performance.now();
      }
    }
    times.sort();
    return {
      runs,
      p50: quantile(times, 0.5),
      p95: quantile(times, 0.95),
      p99: quantile(times, 0.99),
      min: times[0],
      max: times[runs - 1],
      resolution: resolution(),
      threads: this.threads,
      isolated: this.isolated,
      engine: this.engine,
    };
  }

  /** Zeros for every input; symbolic dimensions are 1. */
  zeros() {
    return Object.fromEntries(
      this.inputs.map(({ name, dtype, shape }) => {
        const sizes = shape.map((size) => (typeof size === "number" ? size : 1));
        return [name, { data: new ARRAYS[dtype](count(sizes)), shape: sizes }];
      }),
    );
  }

  /** Give the engine's memory back; the model cannot be run afterwards. */
  async release() {
    await this.#session.release();
  }

  async #call(feeds) {
    try {
      return await this.#session.run(feeds);
    } catch (error) {
      throw new HaversackError(`${this.name}: the engine failed: ${error.message ?? error}`, error);
    }
  }

  #feeds(inputs) {
    const given = named(inputs, this.inputs);
    const feeds = {};
    for (const spec of this.inputs) {
      if (!(spec.name in given)) throw new HaversackError(`input ${spec.name} is missing`);
      const { data, shape } = prepared(spec, given[spec.name]);
      feeds[spec.name] = new this.#engine.Tensor(spec.dtype, data, shape);
    }
    const known = new Set(this.inputs.map(({ name }) => name));
    for (const name of Object.keys(given)) {
      if (!known.has(name)) throw new HaversackError(`the model has no input ${name}; it has ${[...known].join(", ")}`);
    }
    return feeds;
  }
}

/** The files of a web folder, by its URL. */
function folder(url) {
  const base = new URL(String(url).endsWith("/") ? url : `${url}/`, globalThis.document?.baseURI ?? location.href);
  return {
    url: (name) => new URL(name, base).href,
    bytes: async (name) => {
      const from = new URL(name, base).href;
      let response;
      try {
        response = await fetch(from);
      } catch (error) {
        throw new HaversackError(`${from} cannot be fetched: ${error.message}`, error);
      }
      if (!response.ok) throw new HaversackError(`${from} cannot be fetched: the server says ${response.status}`);
      return await response.arrayBuffer();
    },
  };
}

/** The files inside a single-file page, by name; null in a page that has none. */
export function embedded(page = document) {
  const elements = new Map();
  for (const element of page.querySelectorAll('script[type="application/gzip"][data-file]')) {
    elements.set(element.dataset.file, element);
  }
  if (!elements.size) return null;
  return {
    bytes: async (name) => {
      const element = elements.get(name);
      if (!element) throw new HaversackError(`${name} is not in this page`);
      const packed = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      return await new Response(stream).arrayBuffer();
    },
  };
}

/** Import the engine once a folder, and tell it where its files are and how many threads it may use. */
async function importEngine(files, manifest, threads) {
  const at = (name) => `${manifest.engine.folder}/${name}`;
  const names = { main: at("ort.wasm.min.mjs"), glue: at("ort-wasm-simd-threaded.mjs"), wasm: at("ort-wasm-simd-threaded.wasm") };
  const key = files.url ? files.url(names.main) : files;
  if (!engines.has(key)) {
    engines.set(
      key,
      (async () => {
        const link = files.url ?? (await blobs(files, [names.main, names.glue]));
        const engine = await import(link(names.main));
        const { wasm } = engine.env;
        wasm.numThreads = threads; // it has effect once, before the first session
        wasm.wasmPaths = files.url ? { mjs: link(names.glue), wasm: link(names.wasm) } : { mjs: link(names.glue) };
        if (!files.url) wasm.wasmBinary = await files.bytes(names.wasm);
        return engine;
      })(),
    );
  }
  try {
    return await engines.get(key);
  } catch (error) {
    engines.delete(key);
    if (error instanceof HaversackError) throw error;
    throw new HaversackError(`the engine cannot be loaded: ${error.message}`, error);
  }
}

/** Object URLs of scripts that no server has. */
async function blobs(files, names) {
  const urls = new Map();
  for (const name of names) {
    const script = new Blob([await files.bytes(name)], { type: "text/javascript" });
    urls.set(name, URL.createObjectURL(script));
  }
  return (name) => urls.get(name);
}

/** Hold a file to the manifest's SHA-256, where the browser can compute one (https, localhost, file). */
async function verified(content, manifest, name) {
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== manifest.sha256[name]) {
    throw new HaversackError(`${name} is not the file that manifest.json names: it was cut off, or is of another version`);
  }
}

function parsed(content) {
  let manifest;
  try {
    manifest = JSON.parse(new TextDecoder().decode(content));
  } catch (error) {
    throw new HaversackError("manifest.json is not JSON", error);
  }
  if (manifest.format !== "haversack-web") throw new HaversackError("manifest.json is not of a Haversack web folder");
  if (manifest.version !== 1) throw new HaversackError(`manifest.json is of version ${manifest.version}, this reads 1`);
  return manifest;
}

function threadsFor(asked) {
  if (globalThis.crossOriginIsolated !== true) return 1; // no SharedArrayBuffer, no threads
  return Math.max(1, Math.min(asked ?? 4, navigator.hardwareConcurrency || 1));
}

/** The inputs by name; a model of one input may be given it alone. */
function named(inputs, specs) {
  const alone = Array.isArray(inputs) || ArrayBuffer.isView(inputs) || isTensor(inputs);
  if (!alone) {
    if (inputs === null || typeof inputs !== "object") throw new HaversackError(`inputs are an object, not ${inputs}`);
    return inputs;
  }
  if (specs.length !== 1) {
    throw new HaversackError(`the model has the inputs ${specs.map(({ name }) => name).join(", ")}: name them`);
  }
  return { [specs[0].name]: inputs };
}

function isTensor(value) {
  return value !== null && typeof value === "object" && ArrayBuffer.isView(value.data) && Array.isArray(value.shape);
}

/** One input as the engine takes it: its element type, and a shape that fits. */
function prepared({ name, dtype, shape }, value) {
  const given = isTensor(value) ? value.data : value;
  const flat = ArrayBuffer.isView(given) ? given : Array.isArray(given) ? given.flat(Infinity) : [given];
  const sizes = isTensor(value) ? [...value.shape] : inferred(name, shape, flat.length);
  const fits = sizes.length === shape.length && shape.every((size, axis) => typeof size !== "number" || size === sizes[axis]);
  if (!fits) throw new HaversackError(`input ${name} has the shape [${sizes}], the model takes [${shape}]`);
  if (count(sizes) !== flat.length) {
    throw new HaversackError(`input ${name} has ${flat.length} elements, [${sizes}] takes ${count(sizes)}`);
  }
  return { data: converted(name, dtype, flat), shape: sizes };
}

/** The shape of so many elements: the model's, with its one symbolic dimension, or several batches of 1, filled in. */
function inferred(name, shape, elements) {
  const open = shape.filter((size) => typeof size !== "number");
  const known = count(shape.filter((size) => typeof size === "number"));
  if (!open.length) return shape;
  if (known === 0 || elements % known || (open.length > 1 && elements !== known)) {
    throw new HaversackError(`input ${name} takes [${shape}]: give it as {data, shape}`);
  }
  let left = elements / known;
  return shape.map((size) => {
    if (typeof size === "number") return size;
    const taken = left;
    left = 1;
    return taken;
  });
}

function converted(name, dtype, flat) {
  const kind = ARRAYS[dtype];
  if (!kind) throw new HaversackError(`input ${name} is of ${dtype}, which no browser has`);
  const isFloat = dtype.startsWith("float");
  if (flat instanceof kind) {
    if (isFloat && kind !== Uint16Array && !flat.every(Number.isFinite)) {
      throw new HaversackError(`input ${name} holds NaN or infinity`);
    }
    return flat;
  }
  const big = kind === BigInt64Array || kind === BigUint64Array;
  const data = new kind(flat.length);
  for (let i = 0; i < flat.length; i++) {
    const number = typeof flat[i] === "boolean" ? Number(flat[i]) : flat[i];
    if (typeof number !== "number" && typeof number !== "bigint") {
      throw new HaversackError(`input ${name} holds ${JSON.stringify(number)}, which is no number`);
    }
    if (typeof number === "number" && !Number.isFinite(number)) {
      throw new HaversackError(`input ${name} holds NaN or infinity`);
    }
    if (!isFloat && typeof number === "number" && !Number.isInteger(number)) {
      throw new HaversackError(`input ${name} is of ${dtype} and holds ${number}`);
    }
    data[i] = big ? BigInt(number) : Number(number);
    if (!isFloat && Number(data[i]) !== Number(number)) {
      throw new HaversackError(`input ${name} is of ${dtype} and holds ${number}`);
    }
  }
  return data;
}

function count(shape) {
  return shape.reduce((product, size) => product * size, 1);
}

/** The elements as numbers: big integers lose what a double cannot hold, float16 without its array type is decoded. */
function numbers({ data, dtype }) {
  if (dtype === "float16" && data instanceof Uint16Array) return Array.from(data, half);
  return data instanceof BigInt64Array || data instanceof BigUint64Array ? Array.from(data, Number) : data;
}

/** IEEE 754 binary16 from its bits. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

function largest(values) {
  let most = 0;
  for (const value of values) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  return most;
}

/** max|found - expected|; infinite where shape or type differ, or another value is not finite. */
function distance(found, expected) {
  if (!found || found.dtype !== expected.dtype || String(found.shape) !== String(expected.shape)) return Infinity;
  const [ours, theirs] = [numbers(found), numbers(expected)];
  let most = 0;
  for (let i = 0; i < theirs.length; i++) {
    if (Number.isFinite(theirs[i]) && Number.isFinite(ours[i])) most = Math.max(most, Math.abs(ours[i] - theirs[i]));
    else if (!Object.is(ours[i], theirs[i])) return Infinity;
  }
  return most;
}

/** The value below which a share `q` of sorted values lies, linear between neighbours, as NumPy has it. */
function quantile(sorted, q) {
  const place = (sorted.length - 1) * q;
  const [low, high] = [Math.floor(place), Math.ceil(place)];
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

/** The smallest step of the timer that was seen, in milliseconds: 0.005 when isolated, 0.1 and more otherwise. */
function resolution() {
  let smallest = Infinity;
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    let next = start;
    while (next === start) next = performance.now();
    smallest = Math.min(smallest, next - start);
  }
  return smallest;
}
