"""The measure of harm, against its definition computed otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax

from haversack.convert.diagnosis import NATS, SHARE
from haversack.convert.doctor.harm import compared


def drawn(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(st.integers(0, 1000), st.floats(0.001, 1.0))
@settings(max_examples=25, deadline=None)
def test_class_scores_are_compared_by_their_divergence(seed: int, noise: float) -> None:
    own = drawn(seed, (20, 6))
    other = own + np.float32(noise) * drawn(seed + 1, own.shape)
    found = compared({"y": own}, {"y": other})
    wanted = rel_entr(softmax(own.astype(np.float64), axis=1), softmax(other.astype(np.float64), axis=1)).sum(axis=1)
    assert found.unit == NATS
    assert found.loss == pytest.approx(wanted.mean(), rel=1e-6, abs=1e-12)
    assert found.agreement == np.mean(own.argmax(axis=1) == other.argmax(axis=1))


def test_a_head_is_judged_channel_by_channel() -> None:
    own = drawn(0, (50, 7, 14))
    own[..., :4] *= 300
    other = own.copy()
    other[..., 4:] = 0  # the scores are gone, the boxes exact
    found = compared({"y": own}, {"y": other})
    whole = np.square(own - other).mean() / own.var()
    assert whole < 1e-4  # what noise over signal of the whole tensor sees
    assert found.unit == SHARE
    assert found.loss == pytest.approx(10 / 14, rel=0.01)
    assert "axis 2" in found.worst


def test_what_is_equal_does_no_harm_and_what_is_broken_does_the_most() -> None:
    own = drawn(3, (10, 3, 4, 4))
    same = compared({"y": own}, {"y": own.copy()})
    assert same.loss == 0
    assert same.snr_db == 99
    broken = compared({"y": own}, {"y": np.full_like(own, np.nan)})
    assert broken.loss > 1e6
    assert np.isfinite(broken.loss)


@given(st.integers(0, 1000), st.floats(0.01, 0.5), st.floats(1.1, 4.0))
@settings(max_examples=25, deadline=None)
def test_more_noise_is_more_harm(seed: int, noise: float, times: float) -> None:
    own, change = drawn(seed, (30, 3, 4, 4)), drawn(seed + 1, (30, 3, 4, 4))
    less = compared({"y": own}, {"y": own + np.float32(noise) * change})
    more = compared({"y": own}, {"y": own + np.float32(noise * times) * change})
    assert more.loss == pytest.approx(less.loss * times**2, rel=1e-3)
