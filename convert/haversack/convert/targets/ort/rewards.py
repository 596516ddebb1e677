"""Latency over float32 in onnxruntime, by kind of layer and precision: `benchmarks.kernel_rewards` wrote this."""

from __future__ import annotations

from typing import Final

RATIOS: Final[dict[str, dict[str, float]]] = {
    "convolution": {
        "float32": 1.00,
        "float16": 1.03,
        "int8": 0.37,
        "int8-int4": 0.38,
        "int16": 1.76,
        "int8-weights": 0.99,
        "int4-weights": 1.04,
        "int4-block16": 1.03,
        "palette4": 0.99,
    },
    "pointwise": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 0.49,
        "int8-int4": 0.49,
        "int16": 1.62,
        "int8-weights": 1.00,
        "int4-weights": 1.00,
        "int4-block16": 1.00,
        "palette4": 0.99,
    },
    "depthwise": {
        "float32": 1.00,
        "float16": 1.08,
        "int8": 1.33,
        "int8-int4": 1.24,
        "int16": 7.93,
        "int8-weights": 1.02,
        "int4-weights": 1.02,
        "int4-block16": 1.02,
        "palette4": 1.00,
    },
    "dense": {
        "float32": 1.00,
        "float16": 1.10,
        "int8": 0.84,
        "int8-int4": 0.94,
        "int16": 2.97,
        "int8-weights": 1.02,
        "int4-weights": 0.97,
        "int4-block16": 0.96,
        "palette4": 1.04,
    },
}
