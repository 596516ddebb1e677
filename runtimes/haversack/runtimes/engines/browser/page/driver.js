// Asks the server for one command after the other, does it with the runtime that the address names, and posts the answer.
//
// index.html?runtime=ort.js&threads=1

import {pack, unpack} from './frames.js';

const query = new URLSearchParams(location.search);
const threads = Number(query.get('threads'));
const models = new Map();
let runtime;

const commands = {
  async open({id}, [{data}]) {
    const start = performance.now();
    const model = await runtime.open(data);
    models.set(id, model);
    return pack({inputs: model.inputs, outputs: model.outputs, load_ms: performance.now() - start, threads: runtime.threads()});
  },

  // `samples` calls, one after the other; `arrays` holds the inputs of the first, then of the second, ...
  async run({id, samples}, arrays) {
    const model = models.get(id);
    const each = arrays.length / samples;
    const results = [], times = [];
    for (let sample = 0; sample < samples; sample++) {
      const feeds = arrays.slice(sample * each, (sample + 1) * each);
      const start = performance.now();
      const outputs = await model.run(feeds);
      times.push(performance.now() - start);
      results.push(...outputs);
    }
    return pack({samples, first_ms: times[0]}, results);
  },

  // Calls for so many seconds or so often, whichever ends first, five at least; the time of each in milliseconds.
  async time({id, seconds, runs, warm_up}, feeds) {
    const model = models.get(id);
    for (let call = 0; call < warm_up; call++) await model.run(feeds);
    const times = [];
    const until = performance.now() + 1000 * seconds;
    while (times.length < runs && (times.length < 5 || performance.now() < until)) {
      const start = performance.now();
      await model.run(feeds);
      times.push(performance.now() - start);
    }
    return pack({}, [{name: 'ms', dtype: 'float64', shape: [times.length], data: new Float64Array(times)}]);
  },

  async close({id}) {
    await models.get(id)?.close();
    models.delete(id);
    return pack({});
  },
};

function said(error) {
  if (typeof error === 'number') return `the WebAssembly module threw exception ${error}`;
  // onnxruntime-web puts its own call and a number before what onnxruntime says.
  return String(error?.message ?? error).replace(/^[^.]*\. ERROR_CODE: \d+, ERROR_MESSAGE: /, '');
}

// After these the WebAssembly module is in no known state, whatever it gives later.
function broke(error) {
  return error instanceof WebAssembly.RuntimeError || typeof error === 'number' || /abort|out of memory/i.test(said(error));
}

async function hello() {
  const start = performance.now();
  runtime = await import('./' + query.get('runtime'));
  await runtime.start(threads);
  return pack({
    version: runtime.version(), threads: runtime.threads(), isolated: crossOriginIsolated,
    runtime_ms: performance.now() - start,
  });
}

let answer;
try {
  answer = await hello();
} catch (error) {
  answer = pack({error: said(error), broken: true});
}
for (;;) {
  const response = await fetch('exchange', {method: 'POST', body: answer});
  if (response.status !== 200) break;
  try {
    const {header, arrays} = unpack(await response.arrayBuffer());
    answer = await commands[header.do](header, arrays);
  } catch (error) {
    answer = pack({error: said(error), broken: broke(error)});
  }
}
