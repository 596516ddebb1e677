"""Inputs and outputs that Core ML has in another form: scalars, constants, booleans."""

from __future__ import annotations

import numpy as np
import onnx
from onnx.helper import make_node

from haversack.runtimes.engines import open_engine

X = np.linspace(-2, 3, 6, dtype=np.float32).reshape(2, 3)


def test_scalars_have_one_axis_in_the_package(bench, build) -> None:
    nodes = [make_node("Mul", ["x", "s"], ["scaled"]), make_node("ReduceSum", ["scaled"], ["y"], keepdims=0)]
    model = build(nodes, {"x": X, "s": np.array(2.5, np.float32)}, ["y"])
    written = bench.write(model)
    engine = open_engine(written.path)
    assert [(spec.name, spec.shape) for spec in (*engine.inputs, *engine.outputs)] == [
        ("x", (2, 3)),
        ("s", (1,)),
        ("y", (1,)),
    ]
    found = engine.run({"x": X, "s": np.array([2.5], np.float32)})["y"]
    np.testing.assert_allclose(found, [2.5 * X.sum(dtype=np.float64)], rtol=1e-6)
    assert sum("shape [1]" in note for note in written.notes) == 2


def test_scalars_are_verified(tmp_path, build) -> None:
    from haversack.convert import convert

    nodes = [make_node("Mul", ["x", "s"], ["m"]), make_node("ReduceMax", ["m"], ["y"], keepdims=0)]
    onnx.save(build(nodes, {"x": X, "s": np.array(2.5, np.float32)}, ["y"]), tmp_path / "m.onnx")
    result = convert(tmp_path / "m.onnx", to="coreml", output=tmp_path / "m.mlpackage")
    assert result.verified


def test_constant_outputs_are_returned(bench, build) -> None:
    table = np.array([[1, -7], [3, 4]], np.int64)
    nodes = [make_node("Relu", ["x"], ["y"]), make_node("Identity", ["table"], ["t"])]
    engine = open_engine(bench.write(build(nodes, {"x": X}, ["y", "t"], {"table": table})).path)
    np.testing.assert_array_equal(engine.run({"x": X})["t"], table.astype(np.int32))


def test_a_constant_output_beyond_int32_is_refused(bench, build) -> None:
    nodes = [make_node("Relu", ["x"], ["y"]), make_node("Identity", ["table"], ["t"])]
    model = build(nodes, {"x": X}, ["y", "t"], {"table": np.array([2**31], np.int64)})
    (blocker,) = bench.blockers(model)
    assert "does not fit int32" in blocker


def test_a_model_without_inputs_is_refused(bench, build) -> None:
    node = make_node("Constant", [], ["y"], value=onnx.numpy_helper.from_array(X))
    assert "(input): the model has none" in bench.blockers(build([node], {}, ["y"]))[0]


def test_values_without_elements_pass_through_a_graph(bench) -> None:
    nodes = [
        make_node("Split", ["x", "sizes"], ["none", "all"], axis=1),
        make_node("Concat", ["all", "none"], ["y"], axis=1),
    ]
    bench.agree(nodes, {"x": X}, ["y"], {"sizes": np.array([0, 3], np.int64)})
