"""int4 weights: rounded to the scale with the least squared error.

With 15 steps it pays to clip: the scale that just holds the largest weight leaves few steps to the many small ones.
For each channel or block the scales from 1 down to `NARROWEST` of that one are tried, the best is refined once to the
least-squares scale of its own integers, <w, q> / <q, q>, and the weights are rounded anew. (Choi et al., "PACT and
SAWB: Accurate and Efficient 2-bit Quantized Neural Networks", MLSys 2019; Banner et al., "Post training 4-bit
quantization of convolutional networks for rapid-deployment", NeurIPS 2019: clipping by least squared error.)

Integers lie in [-7, 7], symmetric like TFLite's.
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.scale import MIN_SCALE
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

LIMIT = 7
NARROWEST = 0.4
CANDIDATES = 31


def scales(name: str, weights: Array, importance: Array | None = None) -> Array:
    """The best scale for each row of weights.

    Args:
        name: The weights' name, for messages.
        weights: Float [rows, weights of a row].
        importance: Of each weight's squared error, broadcastable to `weights`; None: all alike.

    Returns:
        float32 [rows], above 0.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    weights = weights.astype(np.float32)
    if not np.isfinite(weights).all():
        raise UsageError(f"{name}: NaN or infinite weights cannot be quantized; repair the model's training")
    share = np.broadcast_to(np.float32(1) if importance is None else importance.astype(np.float32), weights.shape)
    widest = np.maximum(np.abs(weights).max(axis=1) / np.float32(LIMIT), np.float32(MIN_SCALE))
    best, error = widest, np.full(len(weights), np.inf)
    for part in np.linspace(1.0, NARROWEST, CANDIDATES, dtype=np.float32):
        best, error = _better(weights, share, best, error, np.maximum(widest * part, np.float32(MIN_SCALE)))
    steps = integers(weights, best[:, None])
    power = (share * steps * steps).sum(axis=1)
    fitted = (share * weights * steps).sum(axis=1) / np.where(power > 0, power, 1)
    refined = np.where(fitted > MIN_SCALE, fitted, best).astype(np.float32)
    return _better(weights, share, best, error, refined)[0]


def integers(weights: Array, scale: Array) -> Array:
    """The whole numbers in [-7, 7] that stand for weights, as floats.

    Args:
        weights: Float, any shape.
        scale: Broadcastable to it.
    """
    rounded: Array = np.clip(np.rint(weights / scale), -LIMIT, LIMIT)
    return rounded


def _better(weights: Array, share: Array, best: Array, error: Array, scale: Array) -> tuple[Array, Array]:
    """Take `scale` for the rows where it leaves less error than `best`."""
    off = weights - integers(weights, scale[:, None]) * scale[:, None]
    left = (share * off * off).sum(axis=1, dtype=np.float64)
    return np.where(left < error, scale, best), np.minimum(left, error)
