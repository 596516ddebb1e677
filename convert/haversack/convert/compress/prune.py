"""Pruning: the weights that matter least become zero.

By magnitude (Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015); where
calibration data says how large a weight's inputs are, by magnitude times the root of their mean square (Sun et al.,
"A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024); in the layers that `second_order`
knows, by what is lost once the others have made up for it. Unstructured, or n of each m weights along the input
channels (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
"""

from __future__ import annotations

import numpy as np

from haversack.runtimes.engines import Array


def unstructured(salience: Array, share: float) -> Array:
    """Which weights stay, bool: all but the given share of them, those that matter least in the whole tensor.

    Args:
        salience: How much each weight matters, any shape.
        share: From 0 to 1; rounded down to whole weights.
    """
    size = salience.reshape(-1)
    kept = np.ones(size.shape, np.bool_)
    kept[np.argsort(size, kind="stable")[: int(share * size.size)]] = False
    return kept.reshape(salience.shape)


def pattern(salience: Array, zeros: int, among: int, axis: int) -> Array:
    """Which weights stay, bool: all but `zeros` of each `among` neighbours along `axis`; a last, shorter run stays.

    Args:
        salience: How much each weight matters, any shape.
        zeros: How many become zero.
        among: Of how many.
        axis: Along which they are neighbours.
    """
    size = np.moveaxis(salience, axis, -1)
    whole = size.shape[-1] // among * among
    runs = size[..., :whole].reshape(*size.shape[:-1], whole // among, among)
    ranks = np.argsort(np.argsort(runs, axis=-1, kind="stable"), axis=-1, kind="stable")
    kept = np.ones(size.shape, np.bool_)
    kept[..., :whole] = (ranks >= zeros).reshape(*size.shape[:-1], whole)
    return np.ascontiguousarray(np.moveaxis(kept, -1, axis))


def magnitude(weights: Array, importance: Array | None = None) -> Array:
    """How much each weight matters by itself: its square, times the mean square of the input that it meets.

    Args:
        weights: Float, any shape.
        importance: That mean square, broadcastable to `weights`; None: all alike.
    """
    size: Array = np.square(weights.astype(np.float64))
    return size if importance is None else size * importance
