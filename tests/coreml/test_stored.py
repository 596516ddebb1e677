"""Compressed weights in saved packages: what coremltools decompresses them to, against onnxruntime on the hub."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.helper import make_node

from haversack.convert.compress import compress
from haversack.convert.compress.recipes import STORAGES, Recipe
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets import Options
from haversack.convert.targets.coreml import TARGET
from haversack.runtimes.engines import open_engine

RNG = np.random.default_rng(9)
X = {"x": RNG.normal(size=(1, 32, 4, 4)).astype(np.float32)}
WEIGHTS = {
    "conv": RNG.normal(size=(32, 32, 3, 3)).astype(np.float32),
    "dense": RNG.normal(size=(64, 512)).astype(np.float32),
    "product": RNG.normal(size=(64, 48)).astype(np.float32),
}
OPS = {
    "int4-weights": ["constexpr_blockwise_shift_scale"],
    "int4-block16": ["constexpr_blockwise_shift_scale"],
    "sparse50": ["constexpr_sparse_to_dense"],
    "sparse75": ["constexpr_sparse_to_dense"],
    "sparse2of4": ["constexpr_sparse_to_dense"],
    "sparse50-palette4": ["constexpr_lut_to_sparse", "constexpr_sparse_to_dense"],
    "sparse50-int8": ["constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"],
}


@pytest.fixture
def model(build) -> ir.Model:
    nodes = [
        make_node("Conv", ["x", "conv"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make_node("Flatten", ["c"], ["f"]),
        make_node("Gemm", ["f", "dense"], ["g"], transB=1),
        make_node("MatMul", ["g", "product"], ["y"]),
    ]
    return ir.from_proto(build(nodes, X, ["y"], WEIGHTS))


@pytest.mark.parametrize("recipe", STORAGES)
def test_coremltools_decompresses_the_hubs_weights(model, tmp_path, ops_of, recipe, decompressed) -> None:
    made = compress(model, Recipe(recipe)).model
    package = TARGET.write(made, recipe, tmp_path / "m.mlpackage", Options()).path
    found = decompressed(package)
    computed = {value.name for node in made.graph for value in node.outputs}
    names = [name for name in WEIGHTS if name in computed]
    hub = Evaluator(made, names).run(X) if names else {}
    hub |= {name: made.graph.initializers[name].const_value.numpy() for name in WEIGHTS if name not in computed}
    for name, array in hub.items():
        # One float32 product on either side; a palette and zeros are copied.
        np.testing.assert_allclose(found[array.shape], array, rtol=2.0**-23, atol=0, err_msg=name)
    ops = [op for op in ops_of(package) if op.startswith("constexpr_")]
    assert set(ops) == set(
        OPS.get(recipe, ["constexpr_lut_to_dense" if "palette" in recipe else OPS["int4-weights"][0]])
    )
    assert ops.count(ops[-1]) == len(WEIGHTS)


@pytest.mark.parametrize(
    ("recipe", "target", "bits"),
    [
        ("palette4", "iOS16", 4), ("palette4", "iOS18", 4), ("palette3", "iOS16", 4), ("palette3", "iOS18", 3),
        ("palette1", "iOS17", 1), ("palette6", "iOS16", 6), ("palette2-group16", "iOS18", 2),
        ("int4-weights", "iOS18", 4),
        ("sparse50", "iOS16", 17), ("sparse75", "iOS18", 9), ("sparse50-palette4", "iOS18", 3),
        ("sparse50-int8", "iOS18", 5),
        ("sparse50-int8", "iOS16", 8), ("sparse50-palette4", "iOS16", 4),
    ],
)  # fmt: skip
def test_a_package_takes_the_bytes_of_its_bits(model, tmp_path, recipe, target, bits) -> None:
    made = compress(model, Recipe(recipe)).model
    package = TARGET.write(made, recipe, tmp_path / "m.mlpackage", Options(deployment_target=target)).path
    data = package / "Data/com.apple.CoreML"
    size = (data / "weights/weight.bin").stat().st_size
    payload = sum(array.size for array in WEIGHTS.values()) * bits / 8
    # Beside them: scales or palettes (at most 144 floats, or 3 × 64), 64 bytes of description and alignment a constant.
    assert payload <= size + (data / "model.mlmodel").stat().st_size  # which has the small ones
    assert size <= payload + 4 * 256 + 12 * 128


@pytest.mark.parametrize("recipe", ["int4-weights", "int4-block32", "palette2-group16"])
def test_what_iOS_18_brought_is_refused_below(model, recipe) -> None:
    made = compress(model, Recipe(recipe)).model
    blockers = TARGET.preflight(made, recipe, Options(deployment_target="iOS17"))
    assert len(blockers) == len(WEIGHTS)
    assert all("iOS 18" in str(blocker) and "iOS 17" in str(blocker) for blocker in blockers)


@pytest.mark.parametrize(("recipe", "ios"), [
    ("palette4", 16), ("palette3", 18), ("palette4-group16", 18), ("int4-weights", 18), ("sparse50", 16),
    ("sparse50-int8", 18), ("int8-weights", 16),
])  # fmt: skip
def test_the_oldest_system_that_holds_it_is_the_default(model, tmp_path, recipe, ios) -> None:
    made = compress(model, Recipe(recipe)).model
    assert TARGET.write(made, recipe, tmp_path / "m.mlpackage", Options()).min_runtime == f"iOS{ios}"


def test_an_embedding_from_a_palette(bench, ops_of) -> None:
    """A table that is looked up at run time, in a palette."""
    constants = {
        "indices": RNG.integers(0, 16, (40, 8)).astype(np.uint8),
        "palette": np.sort(RNG.normal(size=16)).astype(np.float32),
    }
    nodes = [
        make_node("Cast", ["indices"], ["wide"], to=6),
        make_node("Gather", ["palette", "wide"], ["table"]),
        make_node("Gather", ["table", "ids"], ["y"]),
    ]
    ids = np.array([[3, -1, 39], [0, -40, 7]], np.int32)
    written = bench.agree(nodes, {"ids": ids}, constants=constants, tolerance=0)
    assert "constexpr_lut_to_dense" in ops_of(written.path)


def test_constants_that_are_no_palette_are_gathered_at_conversion(bench, ops_of) -> None:
    constants = {"table": RNG.normal(size=(5, 300)).astype(np.float32), "rows": np.array([4, -5, 1], np.int64)}
    nodes = [make_node("Gather", ["table", "rows"], ["some"], axis=0), make_node("Add", ["x", "some"], ["y"])]
    written = bench.agree(nodes, {"x": np.ones((3, 300), np.float32)}, constants=constants, tolerance=0)
    assert ops_of(written.path) == ["add"]


@pytest.mark.parametrize("recipe", ["palette4-fp16", "int8-weights-fp16", "int4-block32-fp16", "sparse50-fp16"])
@pytest.mark.parametrize("named", ["layer", "weights", "none"])
def test_weights_have_the_precision_of_their_layer(model, tmp_path, recipe, named) -> None:
    """MIL takes no cast between compressed weights and their layer, whichever of the two is said to be in float32."""
    made = compress(model, Recipe(recipe)).model
    layer = next(node for node in made.graph if node.op_type == "Conv")
    producer = layer.inputs[1].producer()
    nodes = {"layer": {layer.name}, "weights": {producer.name} if producer else set(), "none": set()}[named]
    options = Options(float32_nodes=frozenset(nodes))
    written = TARGET.write(made, recipe, tmp_path / "m.mlpackage", options)
    (found,) = open_engine(written.path).run(X).values()
    wanted = Evaluator(made).run(X)["y"]
    # float16 rounds each of three layers' inputs, weights and outputs, sums of up to 512 products: 2^-11 each, which
    # add up like random numbers to a few times that of the largest output.
    assert np.abs(found - wanted).max() <= 8 * 2.0**-11 * np.abs(wanted).max()
    assert np.abs(found - wanted).max() > 1e-6 * np.abs(wanted).max()  # not float32 throughout


def test_scales_that_float16_cannot_hold_keep_their_layer_in_float32(build, tmp_path) -> None:
    small = (WEIGHTS["dense"] * 1e-7).astype(np.float32)
    nodes = [make_node("Gemm", ["x", "dense"], ["y"], transB=1)]
    x = {"x": RNG.normal(size=(1, 512)).astype(np.float32)}
    for recipe in ("int8-weights-fp16", "palette4-fp16", "int4-weights-fp16"):
        made = compress(ir.from_proto(build(nodes, x, ["y"], {"dense": small})), Recipe(recipe)).model
        written = TARGET.write(made, recipe, tmp_path / f"{recipe}.mlpackage", Options())
        assert any("computes in float32" in note for note in written.notes)
        (found,) = open_engine(written.path).run(x).values()
        np.testing.assert_allclose(found, Evaluator(made).run(x)["y"], rtol=0, atol=1e-5 * np.abs(found).max())
