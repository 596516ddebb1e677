"""Divergence and noise against SciPy and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from haversack.convert.planning.change import compare, divergence


@given(st.integers(0, 2**32 - 1))
def test_divergence_is_scipys(seed: int) -> None:
    random = np.random.default_rng(seed)
    own, other = random.normal(size=(2, 6, 5)) * 4
    expected = rel_entr(softmax(own, axis=1), softmax(other, axis=1)).sum(axis=1).mean()
    assert divergence(own.astype(np.float32), other.astype(np.float32)) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_divergence_does_not_see_what_softmax_does_not_see() -> None:
    logits = np.array([[1.0, 2.0, 3.0]], np.float32)
    assert divergence(logits, logits + 7) == pytest.approx(0.0, abs=1e-9)


def test_of_class_scores_the_divergence_counts_of_others_noise_over_signal() -> None:
    random = np.random.default_rng(0)
    scores, image = random.normal(size=(8, 3)).astype(np.float32), random.normal(size=(8, 2, 4, 4)).astype(np.float32)
    changed = scores + np.float32(0.1) * random.normal(size=(8, 3)).astype(np.float32)
    found = compare([scores, image], [changed, image])
    assert found.cost == pytest.approx(found.divergence)
    assert found.agreement is not None
    blurred = compare([image], [image + np.float32(0.1)])
    assert blurred.divergence is None
    assert blurred.cost == pytest.approx(0.01 / np.var(image.astype(np.float64)), rel=1e-4)
    assert blurred.snr_db == pytest.approx(-10 * np.log10(blurred.cost))


def test_nothing_changed_costs_nothing() -> None:
    scores = np.eye(3, dtype=np.float32)
    found = compare([scores], [scores])
    assert (found.cost, found.agreement, found.snr_db) == (0.0, 1.0, float("inf"))


def test_what_is_not_a_number_costs_without_end() -> None:
    image = np.ones((1, 2, 2, 2), np.float32)
    image[0, 0, 0, 0] = 2
    assert compare([image], [np.full_like(image, np.nan)]).cost == float("inf")
