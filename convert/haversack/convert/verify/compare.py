"""The distances between what an artifact computes and what it must reproduce."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from haversack.convert.measured import OutputError
from haversack.convert.verify.contract import RELATIVE_FLOOR
from haversack.runtimes.engines import Array


@dataclass(frozen=True)
class Distance:
    """How far one array is from its reference.

    Attributes:
        max_abs: Largest absolute difference.
        peak: Largest absolute reference value.
        noise: Sum of squared differences.
        power: Sum of squared reference values.
    """

    max_abs: float
    peak: float
    noise: float
    power: float

    @property
    def relative(self) -> float:
        """`max_abs / max(peak, 1e-6)`."""
        return self.max_abs / max(self.peak, RELATIVE_FLOOR)

    @property
    def snr_db(self) -> float:
        """10 log10(power / noise), infinite where nothing differs."""
        return decibel(self.power, self.noise)


def decibel(power: float, noise: float) -> float:
    """10 log10(power / noise): +inf without noise, -inf where there is noise and no power, or noise without end."""
    if noise == 0.0:
        return math.inf
    ratio = power / noise if math.isfinite(noise) else 0.0
    return 10.0 * math.log10(ratio) if ratio > 0.0 else -math.inf


def distance(reference: Array, result: Array) -> Distance:
    """Compare two arrays of one shape in float64.

    Equal infinities, and NaN where the reference has NaN, are no difference; any other non-finite value is an
    infinite one.

    Raises:
        ValueError: The shapes differ.
    """
    if reference.shape != result.shape:
        raise ValueError(f"shape {result.shape}, expected {reference.shape}")
    if reference.size == 0:
        return Distance(0.0, 0.0, 0.0, 0.0)
    wanted, got = reference.astype(np.float64), result.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(wanted - got)
    same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    finite = np.where(np.isfinite(wanted), wanted, 0.0)
    return Distance(
        max_abs=float(difference.max()),
        peak=float(np.abs(finite).max()),
        noise=float(np.square(difference).sum()),
        power=float(np.square(finite).sum()),
    )


def output_errors(reference: Mapping[str, Array], result: Mapping[str, Array]) -> tuple[OutputError, ...]:
    """Compare every output, in the reference's order."""
    rows = []
    for name, wanted in reference.items():
        far = distance(wanted, result[name])
        snr = far.snr_db
        rows.append(OutputError(name, far.max_abs, far.relative, snr if math.isfinite(snr) else None))
    return tuple(rows)


def noise(reference: Mapping[str, Array], result: Mapping[str, Array]) -> dict[str, float]:
    """Sum of squared differences of every output."""
    return {name: distance(wanted, result[name]).noise for name, wanted in reference.items()}


def changed(reference: Array, result: Array) -> int:
    """How many rows of class scores [samples, classes] have another winner."""
    return int(np.count_nonzero(~kept(reference, result)))


def kept(reference: Array, result: Array) -> Array:
    """Which rows of class scores [samples, classes] have the reference's winner, bool [samples].

    Where the reference holds several equal best scores, any of them is its prediction: which one argmax names is
    an accident of their order. One score a row (a probability) is a decision at 0.5.
    """
    if reference.shape[1] == 1:
        return np.asarray((reference[:, 0] > 0.5) == (result[:, 0] > 0.5))
    winner = result.argmax(axis=1)
    return np.asarray(~(reference[np.arange(len(reference)), winner] < reference.max(axis=1)))


def predictions(scores: Array) -> Array:
    """The predicted class of each row of scores [samples, classes]; of one score a row, whether it exceeds 0.5."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > 0.5).astype(np.int64)
    return np.asarray(scores.argmax(axis=1))
