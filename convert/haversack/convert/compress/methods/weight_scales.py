"""Scales of weights with the least squared error, one a channel or one a tensor, for 2 to 8 bits.

With few steps it pays to clip: the scale that just holds the largest weight leaves few steps to the many small ones
(Banner, Nahshan, Soudry: "Post training 4-bit quantization of convolutional networks for rapid-deployment", NeurIPS
2019, section 2; Choi et al.: "Accurate and Efficient 2-bit Quantized Neural Networks", MLSys 2019, which fits scales to
weights as SAWB). Here no distribution is assumed: scales from that of the largest weight down to `NARROWEST` of it are
tried on the weights themselves, and the best is refined by alternating between its integers q and the least-squares
scale of those, <w, q> / <q, q>, which can only lower the error.

Errors are weighted by how much each matters, where that is known (`compress/importance.py`).
"""

from __future__ import annotations

import numpy as np

from haversack.convert.compress.methods.grid import Grid
from haversack.convert.compress.scale import MIN_SCALE
from haversack.convert.errors import UsageError
from haversack.runtimes.engines import Array

NARROWEST = 0.2
CANDIDATES = 65
REFINEMENTS = 8


def widest(name: str, weights: Array, axis: int | None, limit: int) -> Grid:
    """The grid that just holds the largest weight of each channel, or of the tensor: plain round-to-nearest's.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    rows = _rows(name, weights, axis)
    return _grid(_widest(rows, limit), axis, limit)


def least_error(name: str, weights: Array, axis: int | None, limit: int, importance: Array | None = None) -> Grid:
    """The grid with the least weighted squared error of rounding to it.

    Args:
        name: The weights' name, for messages.
        weights: Float, any shape.
        axis: One scale for each index along this axis, never negative; None: one for the tensor.
        limit: The largest whole number on the grid.
        importance: Of each weight's squared error, broadcastable to `weights`; None: all alike.

    Raises:
        UsageError: There are NaN or infinite weights.
    """
    rows = _rows(name, weights, axis)
    share = np.ones_like(rows)
    if importance is not None:
        share = _rows(name, np.broadcast_to(importance, weights.shape), axis)
        # An input that calibration never saw counts a little: its weights must not become arbitrary.
        share = share + np.maximum(1e-3 * share.mean(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return _grid(scales(rows, share, limit), axis, limit)


def scales(rows: Array, share: Array, limit: int) -> Array:
    """The best scale for each row of weights.

    Args:
        rows: float32 [rows, weights of a row], finite.
        share: Of each weight's squared error, of the same shape.
        limit: The largest whole number.

    Returns:
        float32 [rows], above 0.
    """
    held = _widest(rows, limit)
    best, error = held, np.full(len(rows), np.inf)
    for part in np.linspace(1.0, NARROWEST, CANDIDATES, dtype=np.float32):
        best, error = _better(rows, share, limit, best, error, np.maximum(held * part, np.float32(MIN_SCALE)))
    for _ in range(REFINEMENTS):
        steps = np.clip(np.rint(rows / best[:, None]), -limit, limit)
        power = (share * steps * steps).sum(axis=1)
        fitted = (share * rows * steps).sum(axis=1) / np.where(power > 0, power, 1)
        refined = np.where(fitted > MIN_SCALE, fitted, best).astype(np.float32)
        best, error = _better(rows, share, limit, best, error, refined)
    return best


def _better(rows: Array, share: Array, limit: int, best: Array, error: Array, scale: Array) -> tuple[Array, Array]:
    """Take `scale` for the rows where it leaves less error than `best`."""
    off = rows - np.clip(np.rint(rows / scale[:, None]), -limit, limit) * scale[:, None]
    left = (share * off * off).sum(axis=1, dtype=np.float64)
    return np.where(left < error, scale, best), np.minimum(left, error)


def _widest(rows: Array, limit: int) -> Array:
    largest = np.abs(rows).max(axis=1, initial=0.0)
    # A channel of zeros is exact at any scale; it takes the others' so that its bias keeps a sensible one.
    largest = np.where(largest > 0, largest, np.abs(rows).max(initial=0.0))
    made: Array = np.maximum(largest / np.float32(limit), np.float32(MIN_SCALE)).astype(np.float32)
    return made


def _rows(name: str, weights: Array, axis: int | None) -> Array:
    array = weights.astype(np.float32)
    if not np.isfinite(array).all():
        raise UsageError(f"{name}: NaN or infinite weights cannot be quantized; repair the model's training")
    return array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _grid(scale: Array, axis: int | None, limit: int) -> Grid:
    return Grid(scale[0] if axis is None else scale, axis, limit)
