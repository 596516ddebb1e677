"""int4, palettes and pruning: the documented forms run by onnxruntime, and laws of the numbers in them."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haversack.convert.compress import cluster, compress, int4, prune
from haversack.convert.compress.recipes import STORAGES, Recipe
from haversack.convert.errors import UsageError
from haversack.convert.hub.evaluate import Evaluator

RNG = np.random.default_rng(4)
WEIGHTS = {
    "conv": RNG.normal(size=(32, 32, 3, 3)).astype(np.float32),
    "depthwise": RNG.normal(size=(32, 1, 3, 3)).astype(np.float32),
    "dense": RNG.normal(size=(64, 512)).astype(np.float32),
    "product": RNG.normal(size=(64, 48)).astype(np.float32),
}


@pytest.fixture
def layers(build) -> ir.Model:
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        ("Conv", ("x", "conv"), "c1", same),
        ("Conv", ("c1", "depthwise"), "c2", {**same, "group": 32}),
        ("Flatten", ("c2",), "f", None),
        ("Gemm", ("f", "dense"), "g", {"transB": 1}),
        ("MatMul", ("g", "product"), "y", None),
    ]
    return build(nodes, {"x": (1, 32, 4, 4)}, ["y"], **WEIGHTS)


def decoded(model: ir.Model) -> dict[str, np.ndarray]:
    """The weights that the compressed graph computes, as onnxruntime executes it."""
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    held = {name: value.const_value.numpy() for name, value in model.graph.initializers.items() if name in WEIGHTS}
    names = [name for name in WEIGHTS if name not in held]
    feeds = {"x": np.zeros((1, 32, 4, 4), np.float32)}
    return held | (Evaluator(model, names).run(feeds) if names else {})


@pytest.mark.parametrize("recipe", STORAGES)
def test_every_storage_keeps_names_and_shapes_and_the_source(layers, recipe) -> None:
    before = ir.to_proto(layers).SerializeToString()
    found = decoded(compress(layers, Recipe(recipe)).model)
    assert ir.to_proto(layers).SerializeToString() == before
    assert {name: array.shape for name, array in found.items()} == {n: a.shape for n, a in WEIGHTS.items()}
    # Gaussian weights, at least one bit each: the best 1-bit palette leaves 1 - 2/pi = 0.363 of the power (Max 1960);
    # without three quarters of them, 0.25 · E[x²; |x| < 0.32·..] is below that too.
    for name, array in found.items():
        assert np.square(array - WEIGHTS[name]).sum() <= 0.40 * np.square(WEIGHTS[name]).sum(), name


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
def test_a_palette_has_so_many_entries_and_each_weight_takes_its_nearest(layers, bits) -> None:
    made = compress(layers, Recipe(f"palette{bits}")).model
    for name, array in decoded(made).items():
        entries = np.unique(array)
        assert entries.size == 2**bits
        nearest = np.abs(WEIGHTS[name][..., None] - entries).min(axis=-1)
        np.testing.assert_allclose(np.abs(array - WEIGHTS[name]), nearest, atol=1e-6)
    stored = made.graph.initializers["conv_indices"].dtype
    assert stored == (ir.DataType.UINT4 if bits <= 4 else ir.DataType.UINT8)


def test_groups_of_channels_have_palettes_of_their_own(layers) -> None:
    made = compress(layers, Recipe("palette2-group16"))
    found = decoded(made.model)
    for start in range(0, 48, 16):
        assert np.unique(found["product"][:, start : start + 16]).size == 4
    assert np.unique(found["product"]).size == 12
    one = decoded(compress(layers, Recipe("palette2")).model)
    for name, weights in WEIGHTS.items():
        assert np.square(found[name] - weights).sum() < np.square(one[name] - weights).sum()


@pytest.mark.parametrize(("recipe", "size"), [("int4-weights", None), ("int4-block16", 16), ("int4-block64", 64)])
def test_int4_has_fifteen_steps_a_channel_or_block(layers, recipe, size) -> None:
    made = compress(layers, Recipe(recipe))
    found = decoded(made.model)
    for name, (out, into) in {"conv": (0, 1), "dense": (0, 1), "product": (1, 0)}.items():
        moved = np.moveaxis(found[name], (out, into), (0, 1))
        block = size if size and moved.shape[1] % size == 0 else moved.shape[1]
        for channel, start in itertools.product(range(0, len(moved), 7), range(0, moved.shape[1], block)):
            part = moved[channel, start : start + block]
            smallest = np.abs(part[part != 0]).min()
            ratios = [part / (smallest / k) for k in range(1, 8)]  # the step is the smallest number or a part of it
            assert any(np.abs(r - np.rint(r)).max() < 1e-4 and np.abs(r).max() < 7.5 for r in ratios)
    assert made.model.graph.initializers["conv_quantized"].dtype == ir.DataType.INT4
    assert bool(size) == bool(made.notes)  # the depthwise layer has one input channel


def test_pruning_takes_the_smallest(layers) -> None:
    half = decoded(compress(layers, Recipe("sparse50")).model)
    assert np.count_nonzero(half["depthwise"]) == half["depthwise"].size  # sums over 9 weights: all are kept
    for name, array in half.items():
        if name == "depthwise":
            continue
        weights = np.abs(WEIGHTS[name])
        assert np.count_nonzero(array) == weights.size - weights.size // 2
        np.testing.assert_array_equal(array[array != 0], WEIGHTS[name][array != 0])
        assert weights[array != 0].min() >= weights[array == 0].max()
    two = decoded(compress(layers, Recipe("sparse2of4")).model)
    runs = np.moveaxis(two["product"], 0, -1).reshape(48, -1, 4)
    assert (np.count_nonzero(runs, axis=-1) == 2).all()
    for recipe in ("sparse50-palette4", "sparse50-int8"):
        both = decoded(compress(layers, Recipe(recipe)).model)
        assert all((both[name][half[name] == 0] == 0).all() for name in WEIGHTS if name != "depthwise")


def test_importance_moves_the_error_to_inputs_that_are_small() -> None:
    values = RNG.normal(size=(64, 32)).astype(np.float32)
    importance = np.where(np.arange(32) < 16, 1.0, 1e-4)
    told, plain = cluster.cluster(values, 4, importance), cluster.cluster(values, 4)
    far = [values - palette[cluster.nearest(values, palette[None])] for palette in (told, plain)]
    assert np.square(far[0][:, :16]).sum() < np.square(far[1][:, :16]).sum()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=4, max_size=9), st.integers(1, 3))
def test_clustering_is_optimal_on_small_sets(numbers, count) -> None:
    """Every division of the sorted numbers into intervals, tried out."""
    values = np.sort(np.array(numbers, np.float32))
    cuts = itertools.combinations(range(1, len(values)), count - 1)
    divisions = (np.split(values, cut) for cut in cuts)
    best = min(sum(float(np.square(part - part.mean()).sum()) for part in parts) for parts in divisions)
    palette = cluster.cluster(values, count)
    chosen = palette[cluster.nearest(values, palette[None])]
    # Lloyd's runs end in local optima; eight starts leave at most a few per cent on sets as small as these.
    assert np.square(values - chosen).sum() <= best * 1.25 + 1e-3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_int4_is_never_worse_than_rounding_to_the_largest(seed) -> None:
    weights = np.random.default_rng(seed).standard_t(3, (5, 40)).astype(np.float32)
    scale = int4.scales("w", weights)[:, None]
    integers = int4.integers(weights, scale)
    assert np.abs(integers).max() <= 7
    step = np.abs(weights).max(axis=1, keepdims=True) / 7
    plain = np.square(np.rint(weights / step) * step - weights).sum(axis=1)
    assert (np.square(integers * scale - weights).sum(axis=1) <= plain * (1 + 1e-6)).all()


def test_a_shorter_last_run_is_left_alone() -> None:
    weights = np.arange(1, 11, dtype=np.float32).reshape(1, 10)
    kept = prune.pattern(prune.magnitude(weights), 2, 4, 1)
    np.testing.assert_array_equal(weights * kept, [[0, 0, 3, 4, 0, 0, 7, 8, 9, 10]])


def test_broken_weights_are_refused(layers) -> None:
    copy = layers.clone()
    broken = WEIGHTS["dense"].copy()
    broken[3, 3] = np.nan
    copy.graph.initializers["dense"].const_value = ir.tensor(broken, name="dense")
    for recipe in ("int4-weights", "palette4", "sparse50"):
        with pytest.raises(UsageError, match="dense: NaN"):
            compress(copy, Recipe(recipe))


@pytest.mark.parametrize(
    "packed", ["palette4", "palette2-group16", "int4-weights", "int4-block16", "sparse50-palette4"]
)
def test_stored_weights_are_unpacked_before_they_are_compressed_anew(layers, packed) -> None:
    source = compress(layers, Recipe(packed)).model
    weights = decoded(source)
    made = compress(source, Recipe("palette8")).model
    assert not {"Add", "DequantizeLinear"} & {node.op_type for node in made.graph}
    for name, array in decoded(made).items():  # at most 7 · 32 · 2 different numbers a palette of 256 does not hold
        assert np.square(array - weights[name]).sum() <= 1e-3 * np.square(weights[name]).sum()
