// onnxruntime-web on the CPU, as driver.js wants it.

import * as ort from './onnxruntime-web/ort.wasm.min.mjs';

// An Identity of one float32, so that the time to start the runtime is not counted as the first model's.
const IDENTITY = Uint8Array.from(atob(
  'CAgSADo3ChAKAXgSAXkiCElkZW50aXR5EgFnWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUIECgAQDQ=='), (c) => c.charCodeAt(0));

const OPTIONS = {executionProviders: ['wasm'], graphOptimizationLevel: 'all', logSeverityLevel: 3};

export const version = () => `onnxruntime-web ${ort.env.versions.web}`;
export const threads = () => ort.env.wasm.numThreads;

export async function start(count) {
  ort.env.wasm.wasmPaths = new URL('onnxruntime-web/', import.meta.url).href;
  ort.env.wasm.numThreads = count;
  ort.env.logLevel = 'error';
  await (await ort.InferenceSession.create(IDENTITY, OPTIONS)).release();
}

export async function open(bytes) {
  const session = await ort.InferenceSession.create(bytes, OPTIONS);
  // A size without a name and a value is -1, which arrives as an unsigned number.
  const size = (one) => (one === 0xffffffff ? '' : one);
  const spec = ({name, isTensor, type, shape}) =>
    isTensor ? {name, dtype: type, shape: shape.map(size)} : {name, dtype: null, shape: []};
  return {
    inputs: session.inputMetadata.map(spec),
    outputs: session.outputMetadata.map(spec),
    async run(feeds) {
      const given = {};
      for (const {name, dtype, shape, data} of feeds) given[name] = new ort.Tensor(dtype, data, shape);
      const found = await session.run(given, {logSeverityLevel: 3});
      return session.outputNames.map((name) => {
        const {type, dims, data} = found[name];
        return {name, dtype: type, shape: [...dims], data};
      });
    },
    close: () => session.release(),
  };
}
