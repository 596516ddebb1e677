"""The target as a whole: preflight, notes, the map of layers, the layout of inputs, determinism."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError
from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets import Options, open_target

Random = np.random.Generator


def floats(random: Random, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def cnn(graph_of: Any, random: Random) -> tuple[Any, dict[str, np.ndarray]]:
    nodes = [
        make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], name="first"),
        make_node("Relu", ["c"], ["r"]),
        make_node("GlobalAveragePool", ["r"], ["p"]),
        make_node("Flatten", ["p"], ["f"]),
        make_node("Gemm", ["f", "g", "h"], ["z"], transB=1, name="dense"),
        make_node("Softmax", ["z"], ["y"]),
    ]
    constants = {
        "w": floats(random, 4, 3, 3, 3),
        "b": floats(random, 4),
        "g": floats(random, 5, 4),
        "h": floats(random, 5),
    }
    feeds = {"x": floats(random, 1, 3, 8, 8)}
    return graph_of(nodes, feeds, ["y"], constants), feeds


def test_preflight_lists_every_blocker_and_nothing_is_written(graph_of: Any, random: Random, tmp_path: Path) -> None:
    nodes = [
        make_node("Pad", ["x", "p"], ["a"], mode="other", name="up"),
        make_node("Relu", ["a"], ["b"]),
        make_node("LRN", ["b"], ["c"], size=4, name="even"),
        make_node("Det", ["c"], ["y"], name="determinant"),
    ]
    model = graph_of(nodes, {"x": floats(random, 1, 3, 4, 4)}, ["y"], {"p": np.array([0, 0, 1, 1] * 2)})
    target = open_target("tflite")
    blockers = target.preflight(model, "fp32", Options())
    assert [blocker.node for blocker in blockers] == ["up", "even", "determinant"]
    assert all(blocker.reason and blocker.remedy for blocker in blockers)
    with pytest.raises(UnsupportedError) as error:
        target.write(model, "fp32", tmp_path / "m.tflite", Options())
    assert list(error.value.blockers) == blockers
    assert not (tmp_path / "m.tflite").exists()


def test_an_unknown_attribute_is_refused(graph_of: Any, random: Random) -> None:
    import onnx_ir as ir

    model = graph_of([make_node("Relu", ["x"], ["y"])], {"x": floats(random, 2)}, ["y"])
    next(iter(model.graph)).attributes.add(ir.AttrInt64("novelty", 1))
    [blocker] = open_target("tflite").preflight(model, "fp32", Options())
    assert "novelty" in blocker.reason


def test_symbolic_shapes_are_refused(graph_of: Any, random: Random) -> None:
    import onnx_ir as ir

    model = graph_of([make_node("Relu", ["x"], ["y"])], {"x": floats(random, 2, 3)}, ["y"])
    model.graph.inputs[0].shape = ir.Shape(["batch", 3])
    [blocker] = open_target("tflite").preflight(model, "fp32", Options())
    assert (blocker.node, blocker.op) == ("x", "input")


def test_layers_name_nodes_and_values_of_the_hub(graph_of: Any, random: Random, bench: Any) -> None:
    model, feeds = cnn(graph_of, random)
    written = bench.layers_agree(model, feeds, "fp32")
    by_name = {layer.name: layer for layer in written.layers}
    assert [layer.op for layer in written.layers][1:] == ["CONV_2D", "AVERAGE_POOL_2D", "FULLY_CONNECTED", "SOFTMAX"]
    assert by_name["first"].outputs[0].value == "r"  # the convolution carries its activation
    assert by_name["first"].outputs[0].permutation == (0, 2, 3, 1)
    assert by_name["dense"].outputs[0].value == "z"


def test_input_layout(graph_of: Any, random: Random, bench: Any, run: Any) -> None:
    model, feeds = cnn(graph_of, random)
    expected = Evaluator(model).run(feeds)["y"]
    kept = bench.write(model)
    assert [(left.value, left.bytes) for left in kept.transposes] == [("x", 4 * feeds["x"].size)]
    moved = bench.write(model, io_layout="channels-last")
    assert "TRANSPOSE" not in {layer.op for layer in moved.layers}
    found = run(bench.data, {"x": feeds["x"].transpose(0, 2, 3, 1)})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)  # as FLOAT of conftest


def test_same_model_same_bytes(graph_of: Any, bench: Any) -> None:
    files = []
    for _ in range(2):
        model, _ = cnn(graph_of, np.random.default_rng(3))
        bench.write(model)
        files.append(bench.data)
    assert files[0] == files[1]


def test_the_model_given_is_not_changed(graph_of: Any, random: Random, bench: Any) -> None:
    import onnx_ir as ir

    model, _ = cnn(graph_of, random)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    bench.write(model, io_layout="channels-last")
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_minimum_runtime(graph_of: Any, random: Random, bench: Any) -> None:
    x = {"x": floats(random, 1, 4, 6, 6)}
    written = bench.write(graph_of([make_node("Relu", ["x"], ["y"])], x, ["y"]))
    assert written.min_runtime == "TensorFlow Lite 1.5.0"
    weights = {"w": floats(random, 4, 2, 3, 3)}
    grouped = bench.write(graph_of([make_node("Conv", ["x", "w"], ["y"], group=2)], x, ["y"], weights))
    assert grouped.min_runtime == "TensorFlow Lite 2.9.0"


def test_no_heavy_imports() -> None:
    """Lowering and writing must not load what they do not need: start-up time is a feature."""
    import subprocess
    import sys

    program = (
        "import sys, pathlib, tempfile, numpy as np, onnx, onnx_ir as ir\n"
        "from onnx import helper as h, TensorProto as T\n"
        "from haversack.convert.targets import Options, open_target\n"
        "g = h.make_graph([h.make_node('MaxPool', ['x'], ['y'], kernel_shape=[2, 2], name='n')], 'g',"
        " [h.make_tensor_value_info('x', T.FLOAT, [1, 2, 4, 4])],"
        " [h.make_tensor_value_info('y', T.FLOAT, [1, 2, 3, 3])])\n"
        "m = ir.from_proto(h.make_model(g, opset_imports=[h.make_opsetid('', 21)]))\n"
        "folder = tempfile.mkdtemp()\n"
        "open_target('tflite').write(m, 'fp32', pathlib.Path(folder) / 'm.tflite', Options())\n"
        "heavy = ('tensorflow', 'coremltools', 'scipy', 'sympy', 'onnxruntime', 'ai_edge_litert')\n"
        "sys.exit(','.join(sorted({name.split('.')[0] for name in sys.modules} & set(heavy))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
