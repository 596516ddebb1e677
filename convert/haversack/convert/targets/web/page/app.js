import { HaversackError, embedded, load } from "./haversack.js";

/** The page around a model: its state, its facts, a place to try it, and its latency. */

const $ = (id) => document.getElementById(id);
const PICTURE = 208; // pixels of the longer side of a small input's picture
const JSON_ELEMENTS = 4096; // a longer input is no help in a text field

let model;
let golden = [];

start().catch(failed);

async function start() {
  const files = embedded();
  if (!files && (await reloadsIsolated())) return;
  model = await load(files ?? "./");
  state("model", "good", `loaded in ${milliseconds(model.loadMs)}`);
  const cores = navigator.hardwareConcurrency || 1;
  const alone = cores > 1 ? "1: this page is not cross-origin isolated" : "1";
  state("threads", model.isolated ? "good" : "warn", model.isolated ? `${model.threads} of ${cores} cores, isolated` : alone);
  if (files) state("offline", "good", "everything is in this one file");
  facts();
  await test();
  offer();
}

/** Make the page work offline, and isolated: the first time by one reload, once the service worker has everything. */
async function reloadsIsolated() {
  if (!("serviceWorker" in navigator)) {
    state("offline", "warn", "no: this needs https:// or localhost");
    return false;
  }
  let registration;
  try {
    state("offline", "busy", "keeping all files");
    registration = await navigator.serviceWorker.register("sw.js");
    if (!registration) throw new Error("this browser takes no service worker"); // what blockers of them give
  } catch (error) {
    state("offline", "warn", `no: ${error.message}`);
    return false;
  }
  offerUpdate(registration);
  const kept = kept_(registration).then(
    () => state("offline", "good", "ready: reload without a network"),
    (error) => state("offline", "warn", `no: ${error.message}`),
  );
  if (globalThis.crossOriginIsolated) return false;
  await kept;
  if (!registration.active || sessionStorage.getItem("haversack-reloaded")) return false;
  sessionStorage.setItem("haversack-reloaded", "1"); // once: a browser that cannot isolate stays as it is
  location.reload();
  return true;
}

/** Resolves when a service worker is active; rejects when the first one could not be installed. */
function kept_(registration) {
  if (registration.active) return Promise.resolve();
  const worker = registration.installing ?? registration.waiting;
  return new Promise((resolve, reject) => {
    const look = () => {
      if (worker.state === "activated") resolve();
      if (worker.state === "redundant") reject(new Error("not all files could be kept"));
    };
    worker.addEventListener("statechange", look);
    look();
  });
}

/** Say when a newer version waits; it takes over all at once when asked to. */
function offerUpdate(registration) {
  const look = () => {
    if (registration.waiting && navigator.serviceWorker.controller) $("update").hidden = false;
  };
  look();
  registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", look));
  $("take-update").addEventListener("click", () => {
    navigator.serviceWorker.addEventListener("controllerchange", () => location.reload());
    registration.waiting?.postMessage("update");
  });
}

async function test() {
  golden = await model.golden();
  if (!golden.length) {
    state("test", "warn", "there are no golden vectors");
    $("tests").parentElement.hidden = true;
    return;
  }
  const check = await model.selfTest();
  const most = Math.max(...check.results.map((each) => each.difference));
  const far = most ? `largest difference ${short(most)}` : "every bit the same";
  state("test", check.ok ? "good" : "bad", check.ok ? `passed, ${far}` : `failed, ${far}`);
  fill($("tests").tBodies[0], check.results, ({ vector, output, difference, allowed, ok }) => [
    cell(String(vector + 1)),
    cell(output),
    cell(`${ok ? "✓" : "✗"} ${short(difference)}`, ok ? "number good" : "number bad"),
    cell(short(allowed), "number"),
  ]);
}

/** The inputs that this model can be given here. */
function offer() {
  const select = $("source");
  const add = (value, text) => select.add(new Option(text, value));
  golden.forEach((_, index) => add(String(index), `Golden vector ${index + 1}`));
  add("random", "Random numbers");
  add("json", "Your numbers, as JSON");
  if (model.manifest.preprocess && model.inputs.length === 1) add("image", "An image of yours");
  select.addEventListener("change", chosen);
  $("run").addEventListener("click", () => run().catch(wrong));
  $("image").addEventListener("change", () => run().catch(wrong));
  $("bench").addEventListener("click", () => bench().catch(failed));
  for (const id of ["source", "run", "bench"]) $(id).disabled = false;
  chosen();
  if (golden.length) run().catch(wrong);
}

function chosen() {
  const source = $("source").value;
  $("json-box").hidden = source !== "json";
  $("image-box").hidden = source !== "image";
  if (source === "json" && !$("json").value) {
    const example = golden.length ? golden[0].inputs : model.zeros();
    const small = Object.values(example).every(({ data }) => data.length <= JSON_ELEMENTS);
    const written = Object.fromEntries(Object.entries(example).map(([name, { data }]) => [name, plain(data)]));
    $("json").value = small ? JSON.stringify(written) : "";
  }
}

async function run() {
  const source = $("source").value;
  const expected = golden[Number(source)]?.outputs;
  const inputs = await given(source);
  if (inputs === undefined) return;
  const start = performance.now();
  const outputs = await model.run(inputs);
  const took = performance.now() - start;
  pictures(inputs);
  const shown = Object.entries(outputs).map(([name, tensor]) => output(name, tensor, expected?.[name]));
  $("result").replaceChildren(...shown, element("p", `One call took ${milliseconds(took)}.`, "quiet"));
}

async function given(source) {
  if (source === "json") {
    try {
      return JSON.parse($("json").value);
    } catch (error) {
      throw new HaversackError(`That is not JSON: ${error.message}`);
    }
  }
  if (source === "image") {
    const [file] = $("image").files;
    return file ? { [model.inputs[0].name]: await pixels(file, model.manifest.preprocess, model.inputs[0]) } : undefined;
  }
  return source === "random" ? random() : golden[Number(source)].inputs;
}

/** Numbers spread evenly over the range of the golden vectors, or of 0 to 1. */
function random() {
  const inputs = model.zeros();
  for (const { name, dtype } of model.inputs) {
    const known = golden.flatMap((vector) => plain(vector.inputs[name].data));
    const [low, high] = known.length ? extent(known) : [0, 1];
    const whole = !dtype.startsWith("float");
    const values = Array.from(inputs[name].data, () => {
      const value = low + Math.random() * (high - low + (whole ? 1 : 0));
      return whole ? Math.min(high, Math.floor(value)) : value;
    });
    inputs[name] = { data: whole || dtype === "float64" ? values : Float32Array.from(values), shape: inputs[name].shape };
    if (Array.isArray(inputs[name].data)) inputs[name] = inputs[name].data;
  }
  return inputs;
}

/** An image as the model's input, by the manifest's preprocessing; the browser's own resampling, not Pillow's. */
async function pixels(file, prepare, { shape }) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new HaversackError(`${file.name} is no image that this browser can read`);
  }
  const [height, width] = prepare.size;
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingEnabled = prepare.interpolation !== "nearest";
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = `rgb(${prepare.pad} ${prepare.pad} ${prepare.pad})`;
  pen.fillRect(0, 0, width, height);
  let [w, h] = [width, height];
  if (prepare.resize !== "stretch") {
    const [x, y] = [width / bitmap.width, height / bitmap.height];
    const ratio = prepare.resize === "letterbox" ? Math.min(x, y) : Math.max(x, y) / prepare.crop_fraction;
    [w, h] = [bitmap.width * ratio, bitmap.height * ratio];
  }
  pen.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const { data } = pen.getImageData(0, 0, width, height);
  const gray = prepare.color === "grayscale";
  const channels = gray ? 1 : 3;
  const first = prepare.layout === "NCHW";
  const values = new Array(height * width * channels);
  for (let place = 0; place < height * width; place++) {
    const [r, g, b] = data.subarray(4 * place, 4 * place + 3);
    const colors = gray ? [luma(r, g, b)] : prepare.color === "bgr" ? [b, g, r] : [r, g, b];
    colors.forEach((color, channel) => {
      const mean = prepare.mean[channel] ?? prepare.mean[0];
      const std = prepare.std[channel] ?? prepare.std[0];
      const value = (color * prepare.scale - mean) / std;
      values[first ? channel * height * width + place : place * channels + channel] = /^u?int/.test(prepare.dtype) ? Math.round(value) : value;
    });
  }
  return shape.every((size) => typeof size === "number") ? values : { data: Float32Array.from(values), shape: imageShape(prepare) };
}

/** ITU-R BT.601 luma as Pillow rounds it: in integers, 16 bits behind the point. */
function luma(r, g, b) {
  return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
}

function imageShape({ layout, size: [height, width], color }) {
  const sizes = { N: 1, H: height, W: width, C: color === "grayscale" ? 1 : 3 };
  return Array.from(layout, (axis) => sizes[axis]);
}

/** Draw each input that can be seen as a picture. */
function pictures(inputs) {
  const figures = [];
  for (const { name, shape } of model.inputs) {
    const value = inputs[name] ?? (model.inputs.length === 1 ? inputs : null);
    const data = value?.data ?? value;
    const drawn = data && picture(plain(ArrayBuffer.isView(data) ? data : [data].flat(Infinity)), value.shape ?? shape);
    if (!drawn) continue;
    const figure = element("figure");
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", `Input ${name} as a picture`);
    figure.append(drawn, element("figcaption", name));
    figures.push(figure);
  }
  $("shown").replaceChildren(...figures);
}

/** A canvas of a [1, H, W], [1, H, W, 1 or 3] or [1, 1 or 3, H, W] array, darkest to brightest; null of others. */
function picture(values, shape) {
  const sizes = shape.map((size) => (typeof size === "number" ? size : 1));
  if (sizes[0] !== 1 || ![3, 4].includes(sizes.length)) return null;
  const colors = [1, 3];
  const first = sizes.length === 4 && colors.includes(sizes[1]) && !colors.includes(sizes[3]);
  const [height, width] = first ? sizes.slice(2) : sizes.slice(1, 3);
  const channels = sizes.length === 3 ? 1 : first ? sizes[1] : sizes[3];
  if (!colors.includes(channels) || Math.min(height, width) < 4 || values.length !== height * width * channels) return null;
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(width, height);
  const [low, high] = extent(values);
  for (let place = 0; place < height * width; place++) {
    for (let color = 0; color < 3; color++) {
      const channel = Math.min(color, channels - 1);
      const value = values[first ? channel * height * width + place : place * channels + channel];
      image.data[4 * place + color] = (255 * (value - low)) / (high - low || 1);
    }
    image.data[4 * place + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
  const zoom = Math.max(1, PICTURE / Math.max(height, width));
  canvas.style.width = `${Math.round(width * zoom)}px`;
  return canvas;
}

/** One output: the best classes of class scores, the first numbers of anything else, and how it compares. */
function output(name, tensor, expected) {
  const box = element("div");
  const values = plain(tensor.data);
  const title = element("h3", `${name} `);
  title.append(element("code", `${tensor.dtype} [${tensor.shape.join(", ")}]`));
  box.append(title);
  const classes = tensor.shape.length === 2 && tensor.shape[0] === 1 && values.length > 1 && tensor.dtype.startsWith("float");
  box.append(classes ? scores(values) : numbersOf(values));
  if (expected) {
    const far = Math.max(0, ...plain(expected.data).map((value, index) => Math.abs(value - values[index])));
    const text = far === 0 ? "Exactly what the model gave where it was packed." : `Within ${short(far)} of what the model gave where it was packed.`;
    box.append(element("p", text, "quiet"));
  }
  return box;
}

function scores(values) {
  const order = values.map((_, index) => index).sort((a, b) => values[b] - values[a]);
  const [low, high] = extent(values);
  const shares = low >= 0 && Math.abs(values.reduce((sum, value) => sum + value, 0) - 1) < 0.02;
  const list = element("ol", "", "scores");
  for (const index of order.slice(0, 5)) {
    const row = element("li");
    const bar = element("span", "", "bar");
    const fill = element("i");
    const share = shares ? values[index] : (values[index] - low) / (high - low || 1);
    fill.style.width = `${100 * Math.max(0, share)}%`;
    bar.append(fill);
    const label = element("span", model.labels?.length === values.length ? model.labels[index] : `class ${index}`, "name");
    const value = shares ? `${(100 * values[index]).toFixed(1)} %` : short(values[index]);
    row.append(label, bar, element("span", value, "value"));
    list.append(row);
  }
  return list;
}

function numbersOf(values) {
  const first = values.slice(0, 12).map(short).join(", ");
  const more = values.length > 12 ? `, … (${values.length.toLocaleString("en")} in all)` : "";
  const line = element("p");
  line.append(element("code", first + more));
  return line;
}

async function bench() {
  const button = $("bench");
  button.disabled = true;
  $("speed").replaceChildren(element("p", "Measuring …", "quiet"));
  try {
    const speed = await model.bench(Number($("runs").value));
    const list = element("dl", "", "figures");
    for (const [name, value] of [["median", speed.p50], ["95 %", speed.p95], ["99 %", speed.p99]]) {
      const figure = element("div");
      figure.append(element("dt", name), element("dd", milliseconds(value)));
      list.append(figure);
    }
    const threads = `${speed.threads} thread${speed.threads > 1 ? "s" : ""}`;
    const coarse = speed.p50 < 10 * speed.resolution ? " That is much of a call this short." : "";
    const text = `${speed.runs} calls with ${threads}, ${speed.engine}; fastest ${milliseconds(speed.min)}, slowest ${milliseconds(speed.max)}. Timer step ${milliseconds(speed.resolution)}.${coarse}`;
    $("speed").replaceChildren(list, element("p", text, "quiet"));
  } finally {
    button.disabled = false;
  }
}

function facts() {
  const { manifest } = model;
  const proof = manifest.verification;
  const rows = [
    ["Compression", manifest.recipe],
    ["Size", `${bytes(manifest.model.bytes)} model, ${bytes(manifest.engine.bytes)} engine (before gzip or brotli)`],
    ["Engine", `${model.engine}, ${model.threads} thread${model.threads > 1 ? "s" : ""}`],
    ["Verified", proof.verified ? `by ${proof.by} against the ${proof.against}, on ${proof.inputs}` : "no: it was not executed"],
    ["Needs", manifest.needs],
  ];
  $("facts").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  const tensors = [...model.inputs.map((spec) => ["input", spec]), ...model.outputs.map((spec) => ["output", spec])];
  fill($("tensors").tBodies[0], tensors, ([kind, { name, dtype, shape }]) => [
    cell(kind), cell(name), cell(dtype), cell(`[${shape.join(", ")}]`),
  ]);
  if (manifest.notes.length) {
    const list = element("ul");
    list.append(...manifest.notes.map((note) => element("li", note)));
    $("notes").replaceChildren(list);
  }
  $("made").textContent = `Packed by ${manifest.made_by}. Runs with ${manifest.engine.name} (${manifest.engine.licence}).`;
}

function state(name, kind, text) {
  const item = $(`state-${name}`);
  item.dataset.state = kind;
  item.querySelector("span").textContent = text;
}

/** Something the page cannot do without. */
function failed(error) {
  console.error(error);
  $("failure").textContent = error.message;
  $("failure").hidden = false;
  for (const item of document.querySelectorAll('.states [data-state="busy"]')) item.dataset.state = "bad";
}

/** Something about one input. */
function wrong(error) {
  if (!(error instanceof HaversackError)) return failed(error);
  $("result").replaceChildren(element("p", error.message, "bad"));
}

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function cell(text, kind = "") {
  return element("td", text, kind);
}

function fill(body, items, cells) {
  body.replaceChildren(
    ...items.map((item) => {
      const row = element("tr");
      row.append(...cells(item));
      return row;
    }),
  );
}

function plain(data) {
  return Array.from(data, Number);
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function short(value) {
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

function milliseconds(value) {
  return value < 1 ? `${Math.max(1, Math.round(value * 1000))}\u00a0µs` : `${Number(value.toPrecision(3))}\u00a0ms`;
}

function bytes(count) {
  return count < 1e6 ? `${Number((count / 1e3).toPrecision(3))} kB` : `${Number((count / 1e6).toPrecision(3))} MB`;
}
