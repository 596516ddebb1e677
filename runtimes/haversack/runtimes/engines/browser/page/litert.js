// LiteRT.js on the CPU, as driver.js wants it.

import {loadLiteRt, loadAndCompile, Tensor} from './litertjs-core/index.js';

let used = 1;

export const version = () => `LiteRT.js ${new URLSearchParams(location.search).get('version')}`;
export const threads = () => used;

export async function start(count) {
  const litert = await loadLiteRt(new URL('litertjs-core/', import.meta.url).href, {threads: count > 1});
  used = Math.min(count, litert.liteRtWasm.getThreadCount?.() || 1);
}

export async function open(bytes) {
  const model = await loadAndCompile(bytes, {accelerator: 'wasm', cpuOptions: {numThreads: used}});
  const inputs = model.getInputDetails(), outputs = model.getOutputDetails();
  const spec = ({name, dtype, shape}) => ({name, dtype, shape: [...shape]});
  return {
    inputs: inputs.map(spec),
    outputs: outputs.map(spec),
    async run(feeds) {
      const given = {};
      for (const {name, shape, data} of feeds) given[name] = new Tensor(data, shape);
      const found = await model.run(given);
      const results = [];
      for (const {name, dtype} of outputs) {
        const tensor = found[name];
        // A copy: the runtime's memory is given back below.
        results.push({name, dtype, shape: [...tensor.type.layout.dimensions], data: tensor.toTypedArray().slice()});
      }
      for (const tensor of [...Object.values(given), ...Object.values(found)]) tensor.delete();
      return results;
    },
    close: () => model.delete(),
  };
}
