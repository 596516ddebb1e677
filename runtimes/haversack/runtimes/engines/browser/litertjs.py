"""LiteRT.js: runs `.tflite` files in Chromium, on the CPU, and only those that it computes right.

LiteRT.js is young: it refuses 8-bit inputs and outputs, and where an operator fails inside it can answer with numbers
of its own making, the error on the console alone. So a model is opened only when its outputs on made-up inputs are
those of native LiteRT, and an error on the console is an error of the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from haversack.runtimes.engines import Array, Engine, TensorSpec
from haversack.runtimes.engines.browser import SECONDS, BrowserEngine, read
from haversack.runtimes.engines.browser.session import Runtime
from haversack.runtimes.engines.browser.vendored import PACKAGES, folder
from haversack.runtimes.errors import EngineError

CORE, UTILS = "@litertjs/core", "@litertjs/wasm-utils"

LITERTJS = Runtime(
    "litertjs",
    "litert.js",
    lambda: {"litertjs-core": folder(CORE), "litertjs-wasm-utils": folder(UTILS)},
    version=PACKAGES[CORE].version,
)

VECTORS = 3
"""How many made-up inputs are compared before a model is given out."""

PASSED = ("float32", "int32", "uint8")
"""Types of the tensors that a page can pass to LiteRT.js 2.5."""

FLOATS = 1e-4
"""Largest relative error of an output against native LiteRT, `max abs difference / max(max abs native, 1e-6)`."""


def open_artifact(
    path: str | Path | bytes, *, threads: int = 1, label: str | None = None, seconds: float = SECONDS
) -> BrowserEngine:
    """Load a `.tflite` model in Chromium with LiteRT.js, and hold it to native LiteRT on made-up inputs.

    Args:
        path: The file, or its bytes.
        threads: How many threads one call may use.
        label: What messages call it; by default the file's name.
        seconds: How long loading, or one call, may take; then Chromium is ended.

    Raises:
        EngineError: There is no Chromium, LiteRT.js's files or native LiteRT are not here, the file cannot be read,
            LiteRT.js rejects it, or what LiteRT.js gives is not what native LiteRT gives.
    """
    content, label = read(path, label, "the TFLite model")
    try:
        from haversack.runtimes.engines.litert import open_artifact as open_natively
    except ImportError:
        raise EngineError(
            f"{label}: litertjs runs only what native LiteRT confirms, and that is not installed (ai-edge-litert)"
        ) from None
    native = open_natively(content, label=label)
    _check_edges(label, native)
    engine = BrowserEngine(LITERTJS, content, threads=threads, label=label, seconds=seconds)
    for vector in range(VECTORS):
        feeds = made_up(native.inputs, vector)
        _compare(label, engine.run(feeds), native.run(feeds))
    return engine


def made_up(inputs: tuple[TensorSpec, ...], seed: int) -> dict[str, Array]:
    """Seeded inputs: floats of the standard normal distribution, small integers; a symbolic size is 1."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for spec in inputs:
        shape = [size if isinstance(size, int) else 1 for size in spec.shape]
        kind = np.dtype(spec.dtype).kind
        values = rng.normal(size=shape) if kind == "f" else rng.integers(0, 2, shape)
        feeds[spec.name] = np.asarray(values).astype(spec.dtype)
    return feeds


def _check_edges(label: str, native: Engine) -> None:
    """Refuse what a page cannot pass to LiteRT.js, before it fails in its own words."""
    for spec in (*native.inputs, *native.outputs):
        if spec.dtype not in PASSED:
            remedy = "make it with --io-dtype float32" if spec.dtype == "int8" else "cast it inside the model"
            raise EngineError(
                f"{label}: {spec.name} is {spec.dtype}, which a page cannot pass to LiteRT.js ({', '.join(PASSED)} "
                f"it can); {remedy}"
            )


def _compare(label: str, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    for name, value in wanted.items():
        other = found.get(name)
        if other is None or other.shape != value.shape or other.dtype != value.dtype:
            has = "nothing" if other is None else f"{other.dtype} {list(other.shape)}"
            raise EngineError(
                f"{label}: LiteRT.js is not to be trusted with it: output {name} is {has}, "
                f"{value.dtype} {list(value.shape)} in native LiteRT"
            )
        finite = np.isfinite(value)
        one, two = value[finite].astype(np.float64), other[finite].astype(np.float64)
        off = float(np.abs(one - two).max(initial=0.0)) / max(float(np.abs(one).max(initial=0.0)), 1e-6)
        if not off <= FLOATS or not np.array_equal(value[~finite], other[~finite], equal_nan=True):
            raise EngineError(
                f"{label}: LiteRT.js is not to be trusted with it: output {name} is off by {off:.1e} of its largest "
                f"value from native LiteRT on made-up inputs, {FLOATS:g} allowed"
            )
