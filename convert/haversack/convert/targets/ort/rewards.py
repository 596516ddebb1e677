"""Latency over float32 in onnxruntime, by kind of layer and precision: `benchmarks.kernel_rewards` wrote this."""

from __future__ import annotations

from typing import Final

RATIOS: Final[dict[str, dict[str, float]]] = {
    "convolution": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 0.37,
        "int8-int4": 0.37,
        "int16": 1.75,
        "int8-weights": 1.00,
        "int4-weights": 1.00,
        "int4-block16": 1.00,
        "palette4": 1.00,
    },
    "pointwise": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 0.45,
        "int8-int4": 0.45,
        "int16": 1.54,
        "int8-weights": 1.00,
        "int4-weights": 1.00,
        "int4-block16": 1.00,
        "palette4": 1.00,
    },
    "depthwise": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 1.32,
        "int8-int4": 1.32,
        "int16": 6.93,
        "int8-weights": 0.99,
        "int4-weights": 1.01,
        "int4-block16": 0.98,
        "palette4": 1.01,
    },
    "dense": {
        "float32": 1.00,
        "float16": 1.01,
        "int8": 0.78,
        "int8-int4": 0.78,
        "int16": 2.73,
        "int8-weights": 0.99,
        "int4-weights": 0.99,
        "int4-block16": 0.99,
        "palette4": 1.00,
    },
}
