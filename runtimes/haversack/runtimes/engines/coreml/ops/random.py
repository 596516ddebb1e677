"""Random tensors. The distribution is MIL's; the numbers are not the device's, whose generator is not published.

With a seed (0 or more) every run gives the same numbers. Without one they are drawn from the same fixed seed, so
that an evaluation can be repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.engines.coreml.registry import Ints, op


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(max(seed, 0))


@op("random_bernoulli")
def random_bernoulli(shape: Ints, prob: float = 0.5, seed: int = -1) -> Any:
    """Return 1 with probability `prob`, else 0."""
    return (_generator(seed).random(shape) < prob).astype(np.float32)


@op("random_normal")
def random_normal(shape: Ints, mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> Any:
    """Return numbers from a normal distribution."""
    return (mean + stddev * _generator(seed).standard_normal(shape)).astype(np.float32)


@op("random_uniform")
def random_uniform(shape: Ints, low: float = 0.0, high: float = 1.0, seed: int = -1) -> Any:
    """Return numbers from [low, high)."""
    return (low + (high - low) * _generator(seed).random(shape)).astype(np.float32)


@op("random_categorical")
def random_categorical(x: Array, mode: str = "logits", size: int = 1, seed: int = -1) -> Any:
    """Return `size` draws with replacement from each distribution along the last axis."""
    logits = np.log(x) if mode == "probs" else x
    # The largest of logits plus Gumbel noise is a draw from their softmax.
    noise = _generator(seed).gumbel(size=(*x.shape[:-1], size, x.shape[-1]))
    return (logits[..., None, :] + noise).argmax(axis=-1).astype(np.float32)
