"""Weights that lie on a grid already keep it: what training for a plan left is what conversion finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haversack.convert.compress.low_bits import limit, rounded
from haversack.convert.compress.plan import LayerPlan

BITS = [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.7, 6.0, 7.3, 8.0]


@given(
    layer=st.one_of(
        st.builds(
            LayerPlan,
            weights=st.just("int8"),
            bits=st.sampled_from(BITS),
            granularity=st.sampled_from(["per-tensor", "per-channel"]),
        ),
        st.builds(LayerPlan, weights=st.just("int4"), granularity=st.sampled_from(["per-tensor", "per-channel"])),
    ),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(1e-6, 1e6),
)
def test_the_integers_of_a_grid_are_found_again(layer: LayerPlan, seed: int, scale: float) -> None:
    random, most = np.random.default_rng(seed), limit(layer)
    integers = random.integers(-most, most + 1, size=(6, 40))
    integers[np.arange(6), random.integers(0, 40, 6)] = most * random.choice([-1, 1], 6)
    steps = np.full((6, 1), scale) if layer.granularity == "per-tensor" else scale * random.uniform(0.1, 10, (6, 1))
    made = rounded("w", (integers * steps).astype(np.float32), layer, 0, None, None)
    np.testing.assert_array_equal(made.weights.quantized, integers)
    np.testing.assert_allclose(made.weights.dequantize(), integers * steps, rtol=1e-4)


@pytest.mark.parametrize("bits", [2.5, 3.5, 4.5])
def test_weights_on_no_grid_keep_the_step_that_the_plan_says(bits: float) -> None:
    array = np.random.default_rng(0).normal(size=(4, 300)).astype(np.float32)
    made = rounded("w", array, LayerPlan("int8", bits, "per-channel"), 0, None, None)
    np.testing.assert_allclose(made.weights.scale, np.abs(array).max(axis=1) / (2 ** (bits - 1) - 0.5), rtol=1e-6)
