"""Latency over float32 in LiteRT, by kind of layer and precision: `benchmarks.kernel_rewards` wrote this."""

from __future__ import annotations

from typing import Final

RATIOS: Final[dict[str, dict[str, float]]] = {
    "convolution": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 0.27,
        "int8-int4": 0.91,
        "int16": 26.30,
        "int8-weights": 1.00,
        "int4-weights": 3.08,
        "int4-block16": 1.00,
        "palette4": 1.00,
    },
    "pointwise": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 0.42,
        "int8-int4": 0.46,
        "int16": 31.96,
        "int8-weights": 1.00,
        "int4-weights": 3.12,
        "int4-block16": 1.00,
        "palette4": 1.00,
    },
    "depthwise": {
        "float32": 1.00,
        "float16": 0.99,
        "int8": 1.21,
        "int8-int4": 6.29,
        "int16": 33.12,
        "int8-weights": 1.00,
        "int4-weights": 2.62,
        "int4-block16": 2.62,
        "palette4": 1.00,
    },
    "dense": {
        "float32": 1.00,
        "float16": 1.00,
        "int8": 0.33,
        "int8-int4": 0.28,
        "int16": 5.86,
        "int8-weights": 1.00,
        "int4-weights": 1.62,
        "int4-block16": 0.99,
        "palette4": 1.00,
    },
}
