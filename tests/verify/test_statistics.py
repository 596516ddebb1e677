"""The test, the intervals and the verdict, against SciPy, closed forms and simulated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haversack.convert.measured import Accuracy, Verification
from haversack.convert.report import Variant, decode, encode
from haversack.convert.verify.accuracy import accuracy
from haversack.convert.verify.statistics import (
    Z,
    bootstrap_means,
    bootstrap_whole,
    mcnemar,
    more_samples,
    more_samples_scaled,
    paired_difference,
    verdict,
)


@settings(deadline=None)  # SciPy's first import is slow.
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_binomial_test(gained: int, lost: int) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("gained", "lost"), [(100_000, 101_000), (0, 1_000), (0, 2_000), (50_000, 50_000)])
def test_mcnemar_of_many_flips(gained: int, lost: int) -> None:
    from scipy.stats import binomtest

    assert mcnemar(gained, lost) == pytest.approx(binomtest(gained, gained + lost, 0.5).pvalue, rel=1e-6, abs=1e-300)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 60), st.integers(100, 20_000), st.floats(0.001, 0.05))
def test_more_samples_is_the_least_number_that_proves(gained: int, lost: int, samples: int, allowed: float) -> None:
    more = more_samples(gained, lost, samples, allowed)

    def bound(count: int) -> float:
        return -paired_difference(gained * count / samples, lost * count / samples, count)[0]

    if more is None:
        # Nothing helps where the measured drop is what is allowed, or more.
        assert (lost - gained) / samples >= allowed * (1 - 1e-3)
        return
    assert bound(samples + more) <= allowed
    assert more == 0 or bound(samples + more - 1) > allowed


def test_more_samples_approaches_the_closed_form() -> None:
    gained, lost, samples, allowed = 30, 36, 1000, 0.01
    g, h = gained / samples, lost / samples
    wanted = Z**2 * (g + h - (g - h) ** 2) / (allowed + g - h) ** 2
    assert more_samples(gained, lost, samples, allowed) == pytest.approx(wanted - samples, rel=0.01)


def test_with_so_many_more_samples_most_experiments_prove_it() -> None:
    """What is promised, simulated: at the number that is named, half of all experiments at these rates are proven."""
    rates, allowed = [0.03, 0.036, 0.934], 0.01
    more = more_samples(30, 36, 1000, allowed)
    assert more is not None
    drawn = np.random.default_rng(0).multinomial(1000 + more, rates, size=2000)
    proven = [paired_difference(g, lost, 1000 + more)[0] >= -allowed for g, lost, _ in drawn]
    assert 0.45 < np.mean(proven) < 0.55


@pytest.mark.parametrize(
    ("drop", "bound", "allowed", "more", "wanted"),
    [
        (0.2, 0.9, 1.0, 0, "proven within 1 point"),
        (0.2, 1.0, 1.0, 0, "proven within 1 point"),
        (0.2, 1.1, 1.0, 2100, "measured within 1 point, cannot tell, 2,100 more samples needed"),
        (1.0, 1.1, 1.0, None, "measured within 1 point, cannot tell, no number of samples would do at this difference"),
        (1.1, 2.0, 1.0, 10, "worse"),
        (-3.0, -0.1, 0.5, 0, "proven within 0.5 points"),
    ],
)
def test_exactly_one_verdict(drop: float, bound: float, allowed: float, more: int | None, wanted: str) -> None:
    assert verdict(drop, bound, allowed, "points", more) == wanted


def scores(right: list[int]) -> np.ndarray:
    """Class scores of two classes whose label is always 0."""
    return np.array([[1.0, 0.0] if each else [0.0, 1.0] for each in right])


def test_an_accuracy_carries_counts_test_interval_and_verdict() -> None:
    source = [1] * 95 + [0] * 5
    found = accuracy(scores([0] * 3 + [1] * 92 + [1] * 2 + [0] * 3), scores(source), np.zeros(100, np.int64))
    assert (found.value, found.gained, found.lost, found.samples) == (0.94, 2, 3, 100)
    assert found.difference == pytest.approx(-0.01)
    assert found.p_value == 1.0
    # One point down, one point allowed: no number of samples proves that it is not a hair more.
    assert found.verdict.startswith("measured within 1 point, cannot tell, no number")
    lower = accuracy(scores([0] * 12 + [1] * 83 + [0] * 5), scores(source), np.zeros(100, np.int64))
    assert lower.verdict == "worse"
    assert lower.p_value == pytest.approx(2 / 2**12)
    same = accuracy(scores(source * 10), scores(source * 10), np.zeros(1000, np.int64))
    assert (same.verdict, same.more_samples) == ("proven within 1 point", None)
    few = accuracy(scores(source), scores(source), np.zeros(100, np.int64))
    assert few.more_samples is not None
    assert few.verdict == f"measured within 1 point, cannot tell, {few.more_samples} more samples needed"
    again = accuracy(scores(source * 2)[: 100 + few.more_samples], scores(source * 2)[: 100 + few.more_samples],
                     np.zeros(100 + few.more_samples, np.int64))  # fmt: skip
    assert again.verdict == "proven within 1 point"


def test_bundles_without_these_numbers_stay_readable() -> None:
    old = {"value": 0.9, "low": 0.8, "high": 1.0, "samples": 9, "difference": 0.0, "difference_low": -0.1,
           "difference_high": 0.1}  # fmt: skip
    read = decode(Accuracy, old)
    assert (read.metric, read.against, read.verdict, read.p_value) == ("top1", "labels", "", None)
    made = Variant("tflite", "fp32", "m", (), 1, None, "0", Verification(True), accuracy=read)
    assert decode(Variant, encode(made)) == made


def test_a_bootstrap_of_means_is_the_normal_interval_of_many_samples() -> None:
    rng = np.random.default_rng(1)
    source = rng.gamma(2.0, size=4000)
    values = source + rng.normal(0.05, 0.5, size=4000)
    (low, high), (below, above) = bootstrap_means(values, source)
    spread = Z * values.std(ddof=1) / math.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - spread, values.mean() + spread), abs=spread * 0.15)
    paired = Z * (values - source).std(ddof=1) / math.sqrt(4000)
    wanted = (values - source).mean()
    assert (below, above) == pytest.approx((wanted - paired, wanted + paired), abs=paired * 0.15)
    assert above - below < (high - low) / 2  # Pairing is what makes small differences visible.


def test_a_bootstrap_is_the_same_every_time_and_agrees_with_the_one_of_means() -> None:
    values, source = np.random.default_rng(2).normal(size=(2, 300))
    once = bootstrap_means(values, source)
    assert bootstrap_means(values, source) == once
    whole = bootstrap_whole(lambda i: float(values[i].mean()), lambda i: float(source[i].mean()), 300)
    assert np.allclose(whole, once)


def test_a_bootstrap_covers_the_truth() -> None:
    """Of 400 experiments, some 95 % of the intervals hold the true mean difference of 0.1 (a little few, as known)."""
    rng, inside = np.random.default_rng(3), 0
    for _ in range(400):
        source = rng.exponential(size=120)
        _, (low, high) = bootstrap_means(source + rng.normal(0.1, 0.3, size=120), source)
        inside += low <= 0.1 <= high
    assert 0.90 < inside / 400 < 0.98


@given(st.floats(-0.5, 1.0), st.floats(0.001, 3.0), st.integers(10, 10_000))
def test_more_samples_of_any_metric(drop: float, half: float, samples: int) -> None:
    more = more_samples_scaled(drop, drop + half, samples, 1.0)
    if drop + half <= 1.0:
        assert more == 0
    elif more is not None:
        assert drop + half * math.sqrt(samples / (samples + more)) <= 1.0 + 1e-9
        assert more == 1 or drop + half * math.sqrt(samples / (samples + more - 1)) > 1.0 - 1e-9
