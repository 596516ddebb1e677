// The page's half of ../frames.py: one JSON header and any number of arrays.

const VIEWS = {
  float32: Float32Array, float64: Float64Array, int8: Int8Array, int16: Int16Array, int32: Int32Array,
  int64: BigInt64Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
  bool: Uint8Array, float16: globalThis.Float16Array ?? Uint16Array,
};

// -> {header, arrays: [{name, dtype, shape, data}]}, the data viewing the buffer in place.
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = header.arrays.map(({name, dtype, shape, at, text}) => {
    if (dtype === 'string') return {name, dtype, shape, data: text};
    const View = VIEWS[dtype];
    if (View === undefined) throw new Error(`input ${name}: ${dtype} is no type that a browser has`);
    const count = shape.reduce((product, size) => product * size, 1);
    return {name, dtype, shape, data: new View(buffer, 4 + length + at, count)};
  });
  return {header, arrays};
}

// header, [{name, dtype, shape, data}] -> one Uint8Array (fetch() sends it faster than a Blob of parts).
export function pack(header, arrays = []) {
  const rows = [];
  let size = 0;
  for (const {name, dtype, shape, data} of arrays) {
    if (dtype === 'string') {
      rows.push({name, dtype, shape, text: Array.from(data)});
      continue;
    }
    rows.push({name, dtype, shape, at: size});
    size += Math.ceil(data.byteLength / 8) * 8;
  }
  const text = new TextEncoder().encode(JSON.stringify({...header, arrays: rows}));
  const length = Math.ceil((text.length + 4) / 8) * 8;
  const frame = new Uint8Array(length + size);
  new DataView(frame.buffer).setUint32(0, length - 4, true);
  frame.fill(0x20, 4, length);
  frame.set(text, 4);
  for (let index = 0; index < rows.length; index++) {
    const {data, dtype} = arrays[index];
    if (dtype !== 'string') frame.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), length + rows[index].at);
  }
  return frame;
}
