"""Laws of scales, ranges and weights, each from TFLite's 8-bit quantization specification or ONNX's operators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from haversack.convert.compress import ranges, weights
from haversack.convert.compress.histogram import Histogram
from haversack.convert.compress.scale import MIN_SCALE, Scale, asymmetric
from haversack.convert.errors import UsageError

FLOATS = st.floats(-1e6, 1e6, width=32)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 200), elements=FLOATS)


@given(FLOATS, FLOATS)
def test_zero_is_exact_and_the_range_is_held(a: float, b: float) -> None:
    scale = asymmetric(min(a, b), max(a, b))
    assert -128 <= scale.zero_point <= 127
    assert scale.dequantize(scale.quantize(np.zeros(1)))[0] == 0.0
    # the zero point is rounded, so an end may lie half a step outside; 1e-5 is float32's rounding of the scale
    slack = scale.scale * (0.5 + 1e-5 * 255)
    assert scale.lowest <= min(a, b, 0.0) + slack
    assert scale.highest >= max(a, b, 0.0) - slack


@given(ARRAYS)
def test_values_inside_the_range_are_at_most_half_a_step_off(values: np.ndarray) -> None:
    scale = asymmetric(float(values.min()), float(values.max()))
    inside = values[(values >= scale.lowest) & (values <= scale.highest)]
    error = np.abs(scale.dequantize(scale.quantize(inside)).astype(np.float64) - inside)
    # half a step, and three float32 roundings (quotient, product, value) of numbers up to 255 steps
    assert (error <= scale.scale * (0.5 + 3 * 255 * 2.0**-24)).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (np.nan, 1.0), (-np.inf, np.inf), (0.0, 1e-45), (1e-39, 2e-39)])
def test_degenerate_ranges_get_a_usable_scale(low: float, high: float) -> None:
    scale = asymmetric(low, high)
    assert np.isfinite(scale.scale)
    assert scale.scale >= MIN_SCALE
    assert np.float32(scale.scale) * np.float32(MIN_SCALE) >= np.finfo(np.float32).tiny


@given(
    hnp.arrays(np.float32, (4, 3, 2), elements=st.floats(-100, 100, width=32)),
    st.sampled_from([None, 0, 1, -1]),
)
def test_weights_are_symmetric_and_within_half_a_step(array: np.ndarray, axis: int | None) -> None:
    made = weights.quantize("w", array, axis)
    assert made.quantized.min() >= -127
    assert made.scale.shape == (() if axis is None else (array.shape[axis],))
    assert (made.scale > 0).all()
    step = made.scale if axis is None else made.scale.reshape([-1 if i == axis % 3 else 1 for i in range(3)])
    # half a step and float32's rounding of a quotient of up to 127
    assert (np.abs(made.dequantize() - array) <= step * (0.5 + 127 * 2.0**-23)).all()


@given(
    hnp.arrays(np.float32, (6, 5), elements=st.sampled_from([0.0, 1e-30, 1e-7, 0.01, -3.0])),
    hnp.arrays(np.float32, 6, elements=st.floats(-1000, 1000, width=32)),
    st.floats(1e-4, 10.0),
    st.floats(1e-4, 10.0),
    st.booleans(),
)
def test_bias_never_overflows_and_keeps_its_value(
    array: np.ndarray, bias: np.ndarray, source: float, result: float, per_channel: bool
) -> None:
    made = weights.quantize("w", array, 0 if per_channel else None, weights.scale_floor(bias, source, result))
    integers, scale = weights.quantize_bias(bias, source, made)
    assert integers.dtype == np.int32
    assert np.abs(integers.astype(np.int64)).max() <= weights.BIAS_LIMIT * (1 + 1e-6)
    np.testing.assert_array_equal(scale, np.float32(source) * made.scale)
    # half a step of the bias, and float32's rounding of the scale
    assert (np.abs(integers * scale.astype(np.float64) - bias) <= 0.5 * scale + np.abs(bias) * 1e-6).all()
    # what the kernel multiplies the accumulator by stays above the 2^-31 at which it is flushed to zero
    assert (made.scale * source / result).min() > 2.0**-31


def test_a_dead_channel_takes_the_scale_of_the_tensor() -> None:
    made = weights.quantize("w", np.array([[0.0, 0.0], [1.27, -1.0]], np.float32), 0)
    np.testing.assert_allclose(made.scale, [0.01, 0.01], rtol=1e-6)


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UsageError, match="kernel"):
        weights.quantize("kernel", np.array([1.0, np.nan], np.float32), None)


@given(st.lists(ARRAYS, min_size=1, max_size=6))
def test_a_histogram_counts_everything_once_in_any_order(batches: list[np.ndarray]) -> None:
    forward, backward = Histogram(), Histogram()
    for batch in batches:
        forward.add(batch)
    for batch in reversed(batches):
        backward.add(batch)
    everything = np.concatenate(batches)
    assert forward.counts.sum() + forward.zeros == everything.size
    assert (forward.low, forward.high) == (everything.min(), everything.max())
    assert forward.zeros == (everything == 0).sum()
    assert (forward.counts == backward.counts).all()
    assert forward.width == backward.width


def test_a_histogram_leaves_out_what_is_not_finite() -> None:
    histogram = Histogram()
    histogram.add(np.array([1.0, np.nan, np.inf, -2.0]))
    assert (histogram.not_finite, histogram.low, histogram.high) == (2, -2.0, 1.0)


@given(ARRAYS, st.sampled_from(["minmax", "percentile", "mse", "entropy"]))
def test_every_rule_stays_within_what_was_seen(values: np.ndarray, rule: str) -> None:
    histogram = Histogram()
    histogram.add(values)
    low, high = ranges.choose(rule, histogram)
    assert min(values.min(), 0) <= low <= high <= max(values.max(), 0)


def test_percentile_cuts_off_a_lone_outlier() -> None:
    histogram = Histogram()
    histogram.add(np.append(np.random.default_rng(0).uniform(-1, 1, 300_000), 50.0))
    low, high = ranges.percentile(histogram)
    assert low == pytest.approx(-1, abs=2 * histogram.width)
    assert high == pytest.approx(1, abs=2 * histogram.width)


@pytest.mark.parametrize("skew", [1.0, 3.0, 8.0])
def test_mse_finds_the_range_that_brute_force_finds(skew: float) -> None:
    rng = np.random.default_rng(4)
    values = (rng.standard_t(4, 50_000) * skew).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)

    def error(low: float, high: float) -> float:
        scale = asymmetric(low, high)
        return float(np.square(scale.dequantize(scale.quantize(values)) - values).mean())

    grid = np.arange(4, 129, 4) / 128
    best = min(error(values.min() * a, values.max() * b) for a in grid for b in grid)
    # the formula takes rounding noise as uniform, and the bins are a quarter step wide: within 5 % of the optimum
    assert error(*ranges.smallest_error(histogram)) <= 1.05 * best
    assert error(*ranges.smallest_error(histogram)) < error(values.min(), values.max())


def test_scales_quantize_as_the_onnx_operators_do() -> None:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    scale = Scale(float(np.float32(0.037)), -17)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [
            helper.make_tensor_value_info("q", TensorProto.INT8, [None]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [scale.scale]),
            helper.make_tensor("z", TensorProto.INT8, [], [-17]),
        ],
    )
    values = np.random.default_rng(0).normal(0, 4, 5000).astype(np.float32)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    q, y = ReferenceEvaluator(model).run(None, {"x": values})
    np.testing.assert_array_equal(scale.quantize(values), q)
    np.testing.assert_array_equal(scale.dequantize(q), y)
