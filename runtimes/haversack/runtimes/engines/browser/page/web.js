// A `.web` folder by its own script, as a page of the user's runs it; driver.js gives it no bytes, it fetches its own.

import {load} from './folder/haversack.js';

const manifest = await (await fetch('folder/manifest.json')).json();
let asked = 1, model;

export const version = () => `${manifest.engine.name} ${manifest.engine.version}`;
export const threads = () => model?.threads ?? asked;

// Loaded once here, so that the time to start the engine is not the model's, and again by `open`.
export async function start(count) {
  asked = count;
  model = await load(new URL('folder/', import.meta.url), {threads: count});
  await model.release();
}

export async function open() {
  const opened = model = await load(new URL('folder/', import.meta.url), {threads: asked});
  return {
    inputs: opened.inputs,
    outputs: opened.outputs,
    async run(feeds) {
      const given = {};
      for (const {name, shape, data} of feeds) given[name] = {data, shape};
      const found = await opened.run(given);
      return Object.entries(found).map(([name, {dtype, shape, data}]) => ({name, dtype, shape, data}));
    },
    close: () => opened.release(),
  };
}
