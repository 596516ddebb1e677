"""Pruning: the weights that matter least become zero.

By magnitude (Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015); where
calibration data says how large a weight's inputs are, by magnitude times the root of their mean square (Sun et al.,
"A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024). Unstructured, or n of each m weights
along the input channels (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
"""

from __future__ import annotations

import numpy as np

from haversack.runtimes.engines import Array


def unstructured(weights: Array, share: float, importance: Array | None = None) -> Array:
    """`weights` with the given share of them zero: those that matter least in the whole tensor.

    Args:
        weights: Float, any shape.
        share: From 0 to 1; rounded down to whole weights.
        importance: Mean square of the input that meets each weight, broadcastable to `weights`; None: all alike.
    """
    size = _salience(weights, importance).reshape(-1)
    result = weights.copy().reshape(-1)
    result[np.argsort(size, kind="stable")[: int(share * size.size)]] = 0
    return result.reshape(weights.shape)


def pattern(weights: Array, zeros: int, among: int, axis: int, importance: Array | None = None) -> Array:
    """`weights` with `zeros` of each `among` neighbours along `axis` zero; a last, shorter run stays as it is.

    Args:
        weights: Float, any shape.
        zeros: How many become zero.
        among: Of how many.
        axis: Along which they are neighbours.
        importance: As for `unstructured`.
    """
    size = np.moveaxis(_salience(weights, importance), axis, -1)
    result = np.moveaxis(weights.copy(), axis, -1)
    whole = result.shape[-1] // among * among
    runs = (*result.shape[:-1], whole // among, among)
    ranks = np.argsort(np.argsort(size[..., :whole].reshape(runs), axis=-1, kind="stable"), axis=-1, kind="stable")
    kept = np.where(ranks < zeros, 0, result[..., :whole].reshape(runs)).reshape(*result.shape[:-1], whole)
    joined = np.concatenate([kept, result[..., whole:]], axis=-1)
    return np.ascontiguousarray(np.moveaxis(joined, -1, axis)).astype(weights.dtype)


def _salience(weights: Array, importance: Array | None) -> Array:
    size: Array = np.abs(weights.astype(np.float64))
    return size if importance is None else size * np.sqrt(np.broadcast_to(importance, weights.shape))
