"""The methods of `compress/methods` against their laws: what must not change, and what must not get worse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haversack.convert import names
from haversack.convert.compress import compress
from haversack.convert.compress.calibrate import KEPT, Reservoir
from haversack.convert.compress.histogram import Histogram
from haversack.convert.compress.methods import DEFAULT, METHODS, bias_correction, checked, weight_scales
from haversack.convert.compress.methods.adaround import adaround
from haversack.convert.compress.methods.equalization import equalize
from haversack.convert.compress.methods.grid import Grid, limit_of
from haversack.convert.compress.methods.reconstruct import Choice, Wanted, reconstruct
from haversack.convert.compress.methods.rounders import nearest, second_order
from haversack.convert.compress.methods.stepwise import Stepwise
from haversack.convert.compress.ranges import choose
from haversack.convert.compress.recipes import Recipe
from haversack.convert.compress.second_order import damped
from haversack.convert.errors import DataError, UsageError
from haversack.convert.hub.evaluate import Evaluator

SEEDS = st.integers(0, 2**32 - 1)
LAYERS = ("Conv_0", "Conv_2", "Gemm_9")


def outputs(model, batches, name="logits") -> np.ndarray:
    evaluator = Evaluator(model, [name])
    return np.concatenate([evaluator.run(dict(feeds))[name] for feeds in batches])


def error(integers, target, moment, step) -> float:
    off = integers * step - target
    return float(np.einsum("oi,ij,oj->", off, moment, off))


def problem(seed: int, outputs: int, inputs: int):
    random = np.random.default_rng(seed)
    mix = random.normal(size=(inputs, inputs)) / np.sqrt(inputs) + 0.3 * np.eye(inputs)
    target = random.normal(size=(outputs, inputs))
    step = np.broadcast_to(np.abs(target).max(axis=1, keepdims=True) / 7, target.shape)
    return target, damped(mix @ mix.T), step, 7


def test_every_method_is_named_once() -> None:
    assert METHODS is names.METHODS
    assert set(DEFAULT) <= set(METHODS)
    assert names.methods_of("none") == ()
    assert names.methods_of(None) is None
    with pytest.raises(UsageError, match="second-order and adaround are alternatives"):
        checked(("second-order", "adaround"), calibrated=True)
    with pytest.raises(UsageError, match="needs --calibration"):
        checked(("adaround",), calibrated=False)
    with pytest.raises(UsageError, match="none of"):
        checked(("magic",), calibrated=True)


@given(SEEDS, st.integers(1, 6), st.sampled_from([2, 2.5, 3, 4, 6, 8]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_fitted_scales_never_lose_to_the_widest(seed, channels, bits, per_channel) -> None:
    random = np.random.default_rng(seed)
    spread = np.exp(random.normal(size=(channels, 1)))
    weights = (random.standard_t(3, size=(channels, 20)) * spread).astype(np.float32)
    importance = random.uniform(0, 1, size=(1, 20)) ** 4
    axis, limit = (0 if per_channel else None), limit_of(bits)
    grids = [
        weight_scales.widest("w", weights, axis, limit),
        weight_scales.least_error("w", weights, axis, limit),
        weight_scales.least_error("w", weights, axis, limit, importance),
    ]
    plain = [float(np.square(grid.round(weights) - weights).sum()) for grid in grids]
    assert plain[1] <= plain[0] * (1 + 1e-5)
    floor = importance + 1e-3 * importance.mean()
    weighted = [float((floor * np.square(grid.round(weights) - weights)).sum()) for grid in grids]
    assert weighted[2] <= weighted[0] * (1 + 1e-5)
    for grid in grids:
        assert np.abs(grid.integers(weights).astype(int)).max() <= limit
        np.testing.assert_array_equal(grid.round(grid.round(weights)), grid.round(weights))


def test_limits_of_bits() -> None:
    assert [limit_of(bits) for bits in (2, 2.5, 3, 3.5, 4, 8)] == [1, 2, 3, 5, 7, 127]
    with pytest.raises(ValueError, match="2 to 8"):
        limit_of(9)


@given(SEEDS, st.integers(1, 4), st.integers(1, 24))
@settings(max_examples=30, deadline=None)
def test_rounders_never_lose_to_nearest_and_stay_on_the_grid(seed, rows, columns) -> None:
    target, moment, step, limit = problem(seed, rows, columns)
    plain = error(nearest(target, moment, step, limit), target, moment, step)
    for rounder in (second_order, adaround):
        made = rounder(target, moment, step, limit)
        assert np.array_equal(made, np.rint(made))
        assert np.abs(made).max() <= limit
        assert error(made, target, moment, step) <= plain * (1 + 1e-9) or rounder is second_order


@pytest.mark.parametrize("rounder", [second_order, adaround])
def test_rounders_come_close_to_the_best_of_all_roundings(rounder) -> None:
    """Brute force over every up and down of six weights: most of what nearest loses against the best is won back."""
    ratios, plain = [], []
    for seed in range(40):
        target, moment, step, limit = problem(seed, 1, 6)
        below = np.floor(target / step)
        best = min(
            error(np.clip(below + np.array(each), -limit, limit), target, moment, step)
            for each in itertools.product((0, 1), repeat=6)
        )
        ratios.append(error(rounder(target, moment, step, limit), target, moment, step) / best)
        plain.append(error(nearest(target, moment, step, limit), target, moment, step) / best)
    assert np.mean(plain) > 1.3
    assert np.mean(ratios) - 1 < (np.mean(plain) - 1) / 3


@pytest.fixture
def chain(build):
    """Everything that equalisation passes, and what stops it: depthwise, PRelu, residual, concat, flatten, ReLU6."""

    def make(seed: int):
        random = np.random.default_rng(seed)

        def weights(*shape):
            spread = np.exp(random.normal(0, 1.5, (shape[0], *[1] * (len(shape) - 1))))
            return (random.normal(size=shape) * spread).astype(np.float32)

        one = {"kernel_shape": [1, 1]}
        three = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        return build(
            [
                ("Conv", ("x", "w1", "b1"), "c1", three),
                ("PRelu", ("c1", "slope"), "p1", None),
                ("Conv", ("p1", "w2", "b2"), "c2", {**three, "group": 8}),
                ("LeakyRelu", ("c2",), "r2", {"alpha": 0.1}),
                ("Conv", ("r2", "w3", "b3"), "c3", one),
                ("Add", ("p1", "c3"), "a", None),
                ("Relu", ("a",), "r3", None),
                ("Add", ("r3", "k"), "ak", None),
                ("MaxPool", ("ak",), "m", {"kernel_shape": [2, 2], "strides": [2, 2]}),
                ("Conv", ("m", "w4", "b4"), "c4", one),
                ("Relu", ("c4",), "r4", None),
                ("Concat", ("m", "r4"), "cat", {"axis": 1}),
                ("Conv", ("cat", "w5", "b5"), "c5", one),
                ("Clip", ("c5", "zero", "six"), "r5", None),
                ("ConvTranspose", ("r5", "w6", "b6"), "c6", {"kernel_shape": [2, 2], "strides": [2, 2]}),
                ("Relu", ("c6",), "r6", None),
                ("Reshape", ("r6", "flat"), "f", None),
                ("Gemm", ("f", "w7", "b7"), "g", {"transB": 1}),
                ("Relu", ("g",), "r7", None),
                ("Gemm", ("r7", "w8", "b8"), "logits", None),
            ],
            {"x": (1, 3, 4, 4)},
            ["logits"],
            w1=weights(8, 3, 3, 3), b1=weights(8), slope=np.abs(weights(8, 1, 1)),
            w2=weights(8, 1, 3, 3), b2=weights(8),
            w3=weights(8, 8, 1, 1), b3=weights(8), k=weights(8, 1, 1), w4=weights(4, 8, 1, 1), b4=weights(4),
            w5=weights(6, 12, 1, 1), b5=weights(6), zero=np.float32(0), six=np.float32(6),
            w6=weights(6, 5, 2, 2), b6=weights(5), flat=np.array([1, 80]),
            w7=weights(7, 80), b7=weights(7), w8=weights(7, 3), b8=weights(3),
        )  # fmt: skip

    return make


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equalisation_by_powers_of_two_changes_not_one_bit(chain, seed) -> None:
    model = chain(seed)
    data = [{"x": np.random.default_rng(seed).normal(size=(1, 3, 4, 4)).astype(np.float32)} for _ in range(3)]
    made = equalize(model, powers_of_two=True)
    assert made.changed > 0
    np.testing.assert_array_equal(outputs(made.model, data), outputs(model, data))


def test_equalisation_makes_ranges_meet_and_holds_what_it_must(chain) -> None:
    model = chain(5)
    made = equalize(model)
    data = [{"x": np.random.default_rng(1).normal(size=(1, 3, 4, 4)).astype(np.float32)}]
    reference = outputs(model, data)
    # 8 layers of float32, sums of up to 80 products
    np.testing.assert_allclose(outputs(made.model, data), reference, atol=8 * 80 * 2.0**-23 * np.abs(reference).max())
    held = {name: value.const_value.numpy() for name, value in made.model.graph.initializers.items()}
    into, out = np.abs(held["w7"]).max(axis=1), np.abs(held["w8"]).max(axis=1)
    np.testing.assert_allclose(into, out, rtol=0.02)  # nothing else reads or writes these channels
    clipped = equalize(model).model
    np.testing.assert_allclose(outputs(clipped, data, "c5"), outputs(model, data, "c5"), rtol=1e-3, atol=1e-4)
    assert model.graph.initializers["w1"].const_value.numpy() is not held["w1"]


def test_equalisation_helps_one_scale_a_tensor(build) -> None:
    random = np.random.default_rng(3)
    spread = np.exp(random.normal(0, 2, 32)).astype(np.float32)
    first = (random.normal(size=(32, 16)) * spread[:, None]).astype(np.float32)
    second = (random.normal(size=(8, 32)) / spread).astype(np.float32)
    nodes = [
        ("Gemm", ("x", "v"), "h", {"transB": 1}),
        ("Relu", ("h",), "r", None),
        ("Gemm", ("r", "w"), "y", {"transB": 1}),
    ]
    model = build(nodes, {"x": (1, 16)}, ["y"], v=first, w=second)
    data = [{"x": random.normal(size=(1, 16)).astype(np.float32)} for _ in range(50)]
    wanted = {"Gemm_0": Wanted(7, per_channel=False), "Gemm_2": Wanted(7, per_channel=False)}
    plain = Choice(None, fitted=False, bias=False)
    noise = [
        np.square(outputs(reconstruct(each, wanted, plain).model, data, "y") - outputs(model, data, "y")).mean()
        for each in (model, equalize(model).model)
    ]
    assert noise[1] < noise[0] / 4


@pytest.mark.parametrize("form", ["weights", "int8"])
def test_empirical_correction_makes_every_mean_right(network, batches, form) -> None:
    if form == "weights":
        wanted = {name: Wanted(7, per_channel=False) for name in LAYERS}
        quantized = reconstruct(network, wanted, Choice(None, fitted=False, bias=False)).model
    else:
        quantized = compress(network, Recipe("int8", weights="per-tensor", methods=()), batches).model
    made = bias_correction.empirical(network, quantized, batches)
    assert set(made.shifts) == set(LAYERS)
    for node in made.model.graph:
        if str(node.name) not in LAYERS:
            continue
        name = next(each.outputs[0].name for each in network.graph if each.name == node.name)
        wanted_mean, mean, before = (
            outputs(model, batches, value).astype(np.float64)
            for model, value in ((network, name), (made.model, node.outputs[0].name), (quantized, node.outputs[0].name))
        )
        axes = tuple(i for i in range(mean.ndim) if i != 1)
        off, old = (np.abs((each - wanted_mean).mean(axis=axes)) for each in (mean, before))
        scale = 0.0
        if form == "int8":  # int32 is rounded to half a step of the accumulator
            scale = float(np.max(node.inputs[2].producer().inputs[1].const_value.numpy())) / 2
        assert off.max() <= scale + 64 * 2.0**-23 * np.abs(wanted_mean).max()
        assert old.max() > 3 * off.max()


def test_a_layer_without_bias_gets_one(build) -> None:
    random = np.random.default_rng(0)
    model = build(
        [("Conv", ("x", "w"), "y", {"kernel_shape": [1, 1]})],
        {"x": (1, 12, 4, 4)},
        ["y"],
        w=random.normal(size=(12, 12, 1, 1)).astype(np.float32),
    )
    data = [{"x": random.normal(1, 1, (1, 12, 4, 4)).astype(np.float32)} for _ in range(8)]
    quantized = compress(model, Recipe("int8", methods=()), data).model
    made = bias_correction.empirical(model, quantized, data).model
    node = next(each for each in made.graph if each.op_type == "Conv")
    bias = node.inputs[2].producer()
    assert bias.op_type == "DequantizeLinear"
    assert bias.inputs[0].const_value.numpy().dtype == np.int32
    scales = [value.producer().inputs[1].const_value.numpy() for value in node.inputs[:2]]
    np.testing.assert_array_equal(bias.inputs[1].const_value.numpy(), scales[0] * scales[1])


def test_analytic_correction_is_the_weights_error_times_the_mean(build) -> None:
    random = np.random.default_rng(4)
    weights = random.normal(size=(6, 5, 3, 3)).astype(np.float32)
    mean = random.normal(size=5)
    model = build([("Conv", ("x", "w"), "y", {"kernel_shape": [3, 3]})], {"x": (1, 5, 8, 8)}, ["y"], w=weights)
    quantized = reconstruct(model, {"Conv_0": Wanted(7)}, Choice(None, fitted=False, bias=False)).model
    made = bias_correction.analytic(model, quantized, {"x": mean}).model
    constant = np.broadcast_to(mean.reshape(1, 5, 1, 1), (1, 5, 8, 8)).astype(np.float32)
    feeds = [{"x": constant}]  # an input that is its own mean everywhere: nothing is left
    off = outputs(made, feeds, "y") - outputs(model, feeds, "y")
    assert np.abs(off).max() < 45 * 2.0**-22 * np.abs(outputs(model, feeds, "y")).max()
    assert np.abs(outputs(quantized, feeds, "y") - outputs(model, feeds, "y")).max() > 0.1


@pytest.mark.parametrize(("low", "high"), [(0.0, np.inf), (0.0, 6.0), (-np.inf, 1.0), (-np.inf, np.inf)])
def test_clipped_normal_is_the_mean_of_clipped_normals(low, high) -> None:
    draws = np.random.default_rng(1).normal(size=2_000_000)
    for mean, deviation in ((0.0, 1.0), (-2.0, 1.5), (5.0, 3.0), (9.0, 0.5)):
        sample = np.clip(mean + deviation * draws, low, high).mean()
        found = bias_correction.clipped_normal(np.float64(mean), np.float64(deviation), low, high)
        assert abs(found - sample) < 5 * deviation / np.sqrt(draws.size)


@pytest.mark.parametrize("rounder", [second_order, adaround])
def test_reconstruction_is_closer_on_other_data(network, rounder) -> None:
    random = np.random.default_rng(8)
    data, other = ([{"x": random.normal(0.5, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(32)] for _ in range(2))
    wanted = {name: Wanted(7) for name in LAYERS}
    plain = reconstruct(network, wanted, Choice(None, fitted=False, bias=False))
    made = reconstruct(network, wanted, Choice(rounder), data)
    reference = outputs(network, other)
    noise = [np.square(outputs(each.model, other) - reference).mean() for each in (plain, made)]
    assert noise[1] < noise[0] / 2
    for name, grid in made.grids.items():
        node = next(each for each in made.model.graph if each.name == name)
        array = node.inputs[1].const_value.numpy()
        np.testing.assert_array_equal(grid.round(array), array)
        assert np.abs(grid.integers(array).astype(int)).max() <= 7


def test_a_given_step_is_kept(network, batches) -> None:
    step = np.float32(0.25)
    made = reconstruct(network, {"Conv_2": Wanted(127, per_channel=False, step=step)}, Choice(second_order), batches)
    assert isinstance(made.grids["Conv_2"], Grid)
    array = next(each for each in made.model.graph if each.name == "Conv_2").inputs[1].const_value.numpy()
    assert np.array_equal(array / step, np.rint(array / step))


def test_stepwise_runs_what_a_whole_run_does_and_sees_changes(network, batches) -> None:
    run = Stepwise(network, batches)
    nodes = {str(node.name): node for node in network.graph}
    run.until(nodes["Conv_2"], [nodes["Relu_1"].outputs[0]])
    for name in ("c2", "r1"):
        value = next(v for n in network.graph for v in n.outputs if v.name == name)
        np.testing.assert_array_equal(np.concatenate(run.values(value)), outputs(network, batches, name))
    run.replace(nodes["Conv_2"].outputs[0], np.zeros_like)
    run.until(nodes["Add_3"])
    np.testing.assert_array_equal(
        np.concatenate(run.values(nodes["Add_3"].outputs[0])), outputs(network, batches, "r1")
    )
    with pytest.raises(KeyError):
        run.values(nodes["Conv_0"].outputs[0])
    run.rest()
    assert len(run.values(network.graph.outputs[0])) == len(batches)
    with pytest.raises(DataError, match="not one batch"):
        Stepwise(network, [])


def test_a_reservoir_draws_from_all_over_and_in_order() -> None:
    reservoir = Reservoir(KEPT)
    for i in range(1000):
        reservoir.offer({"x": np.array(i)})
    taken = [int(each["x"]) for each in reservoir.taken]
    assert len(taken) == KEPT
    assert taken == sorted(set(taken))
    # Of 128 from 1000 about 64 lie in the second half, with a deviation of 5.3.
    assert abs(sum(each >= 500 for each in taken) - 64) < 5 * 5.3


def test_entropy_keeps_a_plain_range_and_cuts_a_lone_outlier() -> None:
    plain, outlier = Histogram(), Histogram()
    draws = np.random.default_rng(1).normal(size=200_000)
    plain.add(draws)
    outlier.add(np.append(draws, 100.0))
    low, high = choose("entropy", plain)
    assert low < -2.5
    assert high > 2.5
    assert 2.5 < choose("entropy", outlier)[1] < 20


@pytest.mark.parametrize(
    "methods", [(), ("equalize",), DEFAULT, ("fitted-scales", "adaround", "analytic-bias-correction")]
)
def test_int8_with_methods_repeats_itself(network, batches, methods) -> None:
    """The same data gives the same bytes, and the same model again has the same numbers in it."""
    first = compress(network, Recipe("int8", methods=methods), iter(batches))
    second = compress(network, Recipe("int8", methods=methods), iter(batches))
    again = first.repeat(network)
    for name, value in first.model.graph.initializers.items():
        held = value.const_value.numpy()
        np.testing.assert_array_equal(second.model.graph.initializers[name].const_value.numpy(), held)
        np.testing.assert_array_equal(again.graph.initializers[name].const_value.numpy(), held)
    np.testing.assert_array_equal(outputs(again, batches, "y"), outputs(first.model, batches, "y"))


def test_default_methods_bring_int8_closer(network, batches) -> None:
    reference = outputs(network, batches)
    noise = []
    for methods in ((), DEFAULT):
        made = compress(network, Recipe("int8", weights="per-tensor", methods=methods), batches).model
        noise.append(np.square(outputs(made, batches, "logits_dequantized") - reference).sum())
    assert noise[1] < noise[0]
