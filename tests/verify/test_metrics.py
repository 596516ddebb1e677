"""Distances, proportions and their intervals, against SciPy and against laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from haversack.convert.verify.accuracy import accuracy
from haversack.convert.verify.compare import changed, decibel, distance, output_errors, predictions
from haversack.convert.verify.statistics import paired_difference, wilson

values = arrays.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


@settings(deadline=None)  # SciPy's first import is slow.
@given(st.integers(1, 5000), st.data())
def test_wilson_is_scipys(samples: int, data: st.DataObject) -> None:
    from scipy.stats import binomtest

    correct = data.draw(st.integers(0, samples))
    theirs = binomtest(correct, samples).proportion_ci(0.95, method="wilson")
    ours = wilson(correct, samples)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 3000))
def test_a_paired_difference_mirrors(gained: int, lost: int, same: int) -> None:
    samples = gained + lost + same
    low, high = paired_difference(gained, lost, samples)
    assert paired_difference(lost, gained, samples) == pytest.approx((-high, -low))
    assert -1 <= low <= (gained - lost) / (samples + 2) <= high <= 1


def test_a_paired_interval_covers_the_truth() -> None:
    """Of 2,000 experiments with a known difference, 95 % of the intervals must hold it (± 4 standard errors, 2 %)."""
    rng = np.random.default_rng(0)
    shares = [0.02, 0.04, 0.94]  # gained, lost, same: a true difference of -0.02
    drawn = rng.multinomial(450, shares, size=2000)
    inside = [low <= -0.02 <= high for low, high in (paired_difference(g, lost, 450) for g, lost, _ in drawn)]
    assert 0.93 < np.mean(inside) < 0.97


def test_accuracy_counts() -> None:
    scores = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    source = np.eye(4, dtype=np.float32)[[0, 1, 2, 0, 1]]
    found = accuracy(scores, source, np.array([0, 1, 2, 3, 1]))
    # This one gets the first four right, the source the first three and the last.
    assert (found.value, found.difference, found.samples) == (0.8, 0.0, 5)
    assert found.low < 0.8 < found.high


@given(values, values)
def test_distance_against_its_definition(reference: np.ndarray, result: np.ndarray) -> None:
    far = distance(reference, result)
    exact = np.abs(reference.astype(np.float64) - result.astype(np.float64))
    assert far.max_abs == exact.max()
    assert far.relative == exact.max() / max(np.abs(reference.astype(np.float64)).max(), 1e-6)
    assert (far.noise == 0.0) == np.array_equal(reference, result)


def test_what_is_not_finite_is_never_close() -> None:
    reference = np.array([1.0, np.inf, np.nan])
    assert distance(reference, reference.copy()).max_abs == 0.0
    for spoiled in ([np.nan, np.inf, np.nan], [1.0, -np.inf, np.nan], [1.0, np.inf, 0.0], [np.inf, np.inf, np.nan]):
        assert distance(reference, np.array(spoiled)).max_abs == math.inf


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="expected"):
        distance(np.zeros(3), np.zeros(4))


def test_decibel() -> None:
    assert decibel(100.0, 1.0) == 20.0
    assert decibel(1.0, 0.0) == math.inf
    assert decibel(0.0, 1.0) == -math.inf


def test_noise_of_one_part_in_a_hundred_is_forty_decibel() -> None:
    reference = {"y": np.ones((8, 8), np.float32)}
    (row,) = output_errors(reference, {"y": np.full((8, 8), 1.01, np.float32)})
    assert row.snr_db == pytest.approx(40.0, abs=1e-3)


def test_equal_best_scores_are_no_change() -> None:
    reference = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0]])
    assert changed(reference, np.array([[0.1, 0.9, 0.0], [0.9, 0.1, 0.0]])) == 0
    assert changed(reference, np.array([[0.1, 0.2, 0.9], [0.1, 0.9, 0.0]])) == 2


def test_one_score_a_row_is_a_decision_at_a_half() -> None:
    reference = np.array([[0.2], [0.7]])
    assert changed(reference, np.array([[0.6], [0.8]])) == 1
    assert predictions(reference).tolist() == [0, 1]
