"""Fake quantization in NumPy, from the plan's definition alone."""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.plan import LayerPlan


def limit_of(layer: LayerPlan) -> int:
    return 7 if layer.weights == "int4" else int(2 ** (layer.bits - 1) - 0.5)


def span_of(layer: LayerPlan) -> float:
    whole = layer.weights == "int4" or layer.bits == 8
    return limit_of(layer) if whole else 2 ** (layer.bits - 1) - 0.5


def fake(weights: np.ndarray, layer: LayerPlan, channels: tuple[int, ...]) -> np.ndarray:
    """The rounded weights, float64; `channels` are the axes of the output channels."""
    wide = weights.astype(np.float64)
    over = tuple(axis for axis in range(wide.ndim) if layer.granularity == "per-tensor" or axis not in channels)
    step = np.abs(wide).max(axis=over, keepdims=True) / span_of(layer)
    return np.clip(np.rint(wide / step), -limit_of(layer), limit_of(layer)) * step


def integers(weights: np.ndarray, layer: LayerPlan, channels: tuple[int, ...]) -> np.ndarray:
    """The whole numbers of weights that lie on the grid already: their largest is the limit."""
    wide = weights.astype(np.float64)
    over = tuple(axis for axis in range(wide.ndim) if layer.granularity == "per-tensor" or axis not in channels)
    levels = wide / (np.abs(wide).max(axis=over, keepdims=True) / limit_of(layer))
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    return np.rint(levels).astype(np.int8)


def fake_input(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """int8 activations over [low, high], float64."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    zero = np.clip(np.rint(-128 - low / step), -128, 127)
    return (np.clip(np.rint(values.astype(np.float64) / step) + zero, -128, 127) - zero) * step
