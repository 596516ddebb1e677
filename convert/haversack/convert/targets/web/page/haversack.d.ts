/** Types of haversack.js. */

/** An element type, by NumPy's name. */
export type DType =
  | "float16" | "float32" | "float64"
  | "int8" | "int16" | "int32" | "int64"
  | "uint8" | "uint16" | "uint32" | "uint64"
  | "bool";

/** The array that holds elements: int64 and uint64 are big integers, bool is uint8. */
export type Data =
  | Float32Array | Float64Array
  | Int8Array | Int16Array | Int32Array | BigInt64Array
  | Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

/** An input or output: one size an axis, or the name of a symbolic dimension. */
export interface TensorSpec {
  name: string;
  dtype: DType;
  shape: (number | string)[];
}

export interface Tensor {
  data: Data;
  shape: number[];
  dtype: DType;
}

type Nested = number | bigint | boolean | Nested[];

/** A typed array, numbers (nested or flat), or data with the shape that symbolic dimensions leave open. */
export type Input = Data | Nested[] | { data: Data; shape: number[] };

export interface GoldenVector {
  inputs: Record<string, Tensor>;
  outputs: Record<string, Tensor>;
}

/** One output of one golden vector: `difference` is max|found - expected|. */
export interface GoldenResult {
  vector: number;
  output: string;
  difference: number;
  allowed: number;
  ok: boolean;
}

export interface Check {
  /** Whether there are golden vectors and all are within the tolerance. */
  ok: boolean;
  vectors: number;
  worst: GoldenResult | null;
  results: GoldenResult[];
}

/** Milliseconds; `resolution` is the timer's smallest step. */
export interface Latency {
  runs: number;
  p50: number;
  p95: number;
  p99: number;
  min: number;
  max: number;
  resolution: number;
  threads: number;
  isolated: boolean;
  engine: string;
}

/** What manifest.json says. */
export interface Manifest {
  format: "haversack-web";
  version: 1;
  name: string;
  recipe: string;
  made_by: string;
  source_sha256: string;
  model: { file: string; bytes: number };
  inputs: TensorSpec[];
  outputs: TensorSpec[];
  labels: string[] | null;
  preprocess: Record<string, unknown> | null;
  engine: { name: string; version: string; licence: string; folder: string; bytes: number };
  needs: string;
  verification: Record<string, unknown>;
  golden: {
    file: string | null;
    tolerance: { absolute: number; relative: number };
    vectors: { inputs: Record<string, Placed>; outputs: Record<string, Placed> }[];
  };
  notes: string[];
  sha256: Record<string, string>;
}

/** Where an array of a golden vector lies in golden.bin. */
export interface Placed {
  dtype: DType;
  shape: number[];
  offset: number;
}

/** Files by name, where they do not lie at a URL. */
export interface Files {
  bytes(name: string): Promise<ArrayBuffer>;
  url?(name: string): string;
}

export interface Options {
  /** How many threads at most; more than one needs cross-origin isolation. */
  threads?: number;
}

export class HaversackError extends Error {
  readonly name: "HaversackError";
}

export class Model {
  readonly manifest: Manifest;
  readonly name: string;
  readonly inputs: TensorSpec[];
  readonly outputs: TensorSpec[];
  readonly labels: string[] | null;
  /** How many threads the engine was given. */
  readonly threads: number;
  /** Whether the page is cross-origin isolated. */
  readonly isolated: boolean;
  /** Name and version of the engine. */
  readonly engine: string;
  /** From the call of `load` to a model that can be run, in milliseconds. */
  readonly loadMs: number;
  /** Run once. Throws HaversackError where an input does not fit. */
  run(inputs: Record<string, Input> | Input): Promise<Record<string, Tensor>>;
  golden(): Promise<GoldenVector[]>;
  selfTest(): Promise<Check>;
  bench(runs?: number): Promise<Latency>;
  zeros(): Record<string, { data: Data; shape: number[] }>;
  release(): Promise<void>;
}

/** Load the model of a web folder, by the folder's URL or from the files themselves. */
export function load(source?: string | URL | Files, options?: Options): Promise<Model>;

/** The files inside a single-file page; null in any other. */
export function embedded(page?: Document): Files | null;
