"""Latency over float32 in LiteRT, by kind of layer and precision: `benchmarks.kernel_rewards` wrote this."""

from __future__ import annotations

from typing import Final

RATIOS: Final[dict[str, dict[str, float]]] = {
    "convolution": {
        "float32": 1.00,
        "float16": 0.97,
        "int8": 0.27,
        "int8-int4": 0.96,
        "int16": 96.04,
        "int8-weights": 1.00,
        "int4-weights": 4.30,
        "int4-block16": 1.03,
        "palette4": 1.00,
    },
    "pointwise": {
        "float32": 1.00,
        "float16": 1.01,
        "int8": 0.42,
        "int8-int4": 0.47,
        "int16": 138.26,
        "int8-weights": 0.99,
        "int4-weights": 4.48,
        "int4-block16": 1.00,
        "palette4": 1.00,
    },
    "depthwise": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 1.25,
        "int8-int4": 9.47,
        "int16": 187.51,
        "int8-weights": 1.01,
        "int4-weights": 3.58,
        "int4-block16": 3.36,
        "palette4": 1.01,
    },
    "dense": {
        "float32": 1.00,
        "float16": 0.98,
        "int8": 0.36,
        "int8-int4": 0.30,
        "int16": 6.77,
        "int8-weights": 1.00,
        "int4-weights": 1.63,
        "int4-block16": 0.99,
        "palette4": 1.00,
    },
}
