"""Cuts of a written file compute what the whole computes at the same place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.hub.evaluate import Evaluator
from haversack.convert.targets.tflite import extract

Random = np.random.Generator


@pytest.fixture
def cnn(graph_of: Any, random: Random) -> tuple[Any, dict[str, np.ndarray]]:
    constants = {
        "w": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "v": random.standard_normal((4, 4, 3, 3)).astype(np.float32),
    }
    nodes = [
        make_node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),  # a PAD and its convolution
        make_node("Relu", ["a"], ["b"]),
        make_node("Conv", ["b", "v"], ["c"], pads=[1, 1, 1, 1]),
        make_node("Add", ["b", "c"], ["d"]),
        make_node("GlobalMaxPool", ["d"], ["y"]),
    ]
    feeds = {"x": random.standard_normal((1, 3, 8, 8)).astype(np.float32)}
    return graph_of(nodes, feeds, ["y"], constants), feeds


def test_reading_back_gives_the_same_file(cnn: Any, bench: Any) -> None:
    from haversack.convert.targets.tflite.write import serialize

    bench.write(cnn[0])
    graph, _ = extract.read(bench.data)
    assert serialize(graph)[0] == bench.data


def test_truncate(cnn: Any, bench: Any, run: Any) -> None:
    model, feeds = cnn
    written = bench.write(model)
    taps = [tap for layer in written.layers for tap in layer.outputs]
    expected = Evaluator(model, [tap.value for tap in taps]).run(feeds) if taps else {}
    for tap in taps:
        cut = extract.truncate(bench.data, [int(tap.tensor)])
        graph, _ = extract.read(cut)
        [found] = run(cut, {graph.inputs[0][0]: feeds["x"]}).values()
        wanted = expected[tap.value]
        wanted = wanted.transpose(tap.permutation) if tap.permutation else wanted
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)  # as FLOAT of conftest


def test_single_has_one_operator(cnn: Any, bench: Any) -> None:
    bench.write(cnn[0])
    graph, _ = extract.read(bench.data)
    for number, operator in enumerate(graph.operators):
        cut, _ = extract.read(extract.single(bench.data, number))
        assert [op.code for op in cut.operators] == [operator.code]
        assert len(cut.inputs) == len({id(t) for t in operator.activations})


def test_a_layer_may_be_several_operators(cnn: Any, bench: Any) -> None:
    written = bench.write(cnn[0])
    first = next(layer for layer in written.layers if layer.op == "CONV_2D")
    cut, _ = extract.read(extract.layer(bench.data, first))
    assert [op.code for op in cut.operators] == ["PAD", "CONV_2D"]
