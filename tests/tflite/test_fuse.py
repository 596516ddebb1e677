"""Fusions: which operators are left. (That they compute the same is what every other test here compares.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.targets.tflite import extract
from haversack.convert.targets.tflite.schema import ACTIVATIONS, SAME, VALID

Random = np.random.Generator


@pytest.fixture
def operators(bench: Any, random: Random) -> Any:
    """Lowers nodes on a channels-last input, compares values, and gives the operators."""

    def lower(nodes: list[Any], outputs: tuple[str, ...] = ("y",), **constants: np.ndarray) -> list[Any]:
        x = random.standard_normal((1, 8, 8, 4)).astype(np.float32)
        first = make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2])
        bench.agree([first, *nodes], {"nhwc": x}, outputs, constants)
        return [op for op in extract.read(bench.data)[0].operators if op.code != "TRANSPOSE"]

    return lower


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("low", "high", "code"), [(0, None, "RELU"), (0, 6, "RELU6"), (-1, 1, "RELU_N1_TO_1")])
def test_activation_into_producer(low: float, high: float | None, code: str, operators: Any) -> None:
    constants = {"w": weights(4, 4, 3, 3), "l": np.float32(low)} | ({} if high is None else {"h": np.float32(high)})
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node("Clip", ["c", "l", *(["h"] if high else [])], ["y"])]
    [operator] = operators(nodes, **constants)
    assert operator.options["fused_activation_function"] == ACTIVATIONS[code]


def test_activation_whose_input_is_read_elsewhere_stays(operators: Any) -> None:
    nodes = [make_node("Conv", ["x", "w"], ["c"]), make_node("Relu", ["c"], ["y"])]
    found = operators(nodes, ("y", "c"), w=weights(4, 4, 3, 3))
    assert [op.code for op in found] == ["CONV_2D", "RELU"]


def test_pad_into_convolution(operators: Any) -> None:
    pads = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    nodes = [make_node("Pad", ["x", "p"], ["q"]), make_node("Conv", ["q", "w"], ["y"], strides=[2, 2])]
    [operator] = operators(nodes, p=pads, w=weights(4, 4, 3, 3))
    assert (operator.code, operator.options.get("padding", SAME)) == ("CONV_2D", SAME)


def test_pads_that_same_does_not_give_stay(operators: Any) -> None:
    pads = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    nodes = [make_node("Pad", ["x", "p"], ["q"]), make_node("Conv", ["q", "w"], ["y"], strides=[2, 2])]
    found = operators(nodes, p=pads, w=weights(4, 4, 3, 3))
    assert [op.code for op in found] == ["PAD", "CONV_2D"]
    assert found[1].options["padding"] == VALID


def test_two_pads_become_one(operators: Any) -> None:
    nodes = [make_node("Pad", ["x", "p"], ["q"]), make_node("Conv", ["q", "w"], ["y"], pads=[2, 0, 0, 0])]
    found = operators(nodes, p=np.array([0, 0, 1, 1, 0, 0, 0, 0]), w=weights(4, 4, 3, 3))
    assert [op.code for op in found] == ["PAD", "CONV_2D"]


def test_bias_into_producer(operators: Any) -> None:
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("Add", ["c", "b"], ["a"]),
        make_node("Relu", ["a"], ["y"]),
    ]
    [operator] = operators(nodes, w=weights(4, 4, 3, 3), b=weights(4, 1, 1))
    assert operator.code == "CONV_2D"


SIXTH = np.float32(1 / 6)
HARD_SWISH = {
    "gate times a sixth": [("Mul", ["g", "sixth"], "h"), ("Mul", ["x", "h"], "y")],
    "product over six": [("Mul", ["x", "g"], "h"), ("Div", ["h", "six"], "y")],
    "product times a sixth": [("Mul", ["g", "x"], "h"), ("Mul", ["sixth", "h"], "y")],
}


@pytest.mark.parametrize("rest", HARD_SWISH.values(), ids=list(HARD_SWISH))
def test_hard_swish(rest: list[tuple[str, list[str], str]], operators: Any) -> None:
    nodes = [make_node("Add", ["x", "three"], ["a"]), make_node("Clip", ["a", "zero", "six"], ["g"])]
    nodes += [make_node(op, inputs, [output]) for op, inputs, output in rest]
    numbers = {"three": 3, "zero": 0, "six": 6, "sixth": SIXTH}
    [operator] = operators(nodes, **{name: np.float32(number) for name, number in numbers.items()})
    assert operator.code == "HARD_SWISH"


def test_hard_swish_from_hard_sigmoid(operators: Any) -> None:
    nodes = [make_node("HardSigmoid", ["x"], ["g"], alpha=1 / 6, beta=0.5), make_node("Mul", ["x", "g"], ["y"])]
    [operator] = operators(nodes)
    assert operator.code == "HARD_SWISH"


def test_a_gate_of_another_tensor_is_no_hard_swish(operators: Any) -> None:
    nodes = [
        make_node("HardSigmoid", ["x"], ["g"], alpha=1 / 6, beta=0.5),
        make_node("Neg", ["x"], ["n"]),
        make_node("Mul", ["n", "g"], ["y"]),
    ]
    assert "HARD_SWISH" not in {op.code for op in operators(nodes)}


def test_flatten_before_a_dense_layer_costs_nothing(operators: Any) -> None:
    nodes = [
        make_node("GlobalMaxPool", ["x"], ["p"]),
        make_node("Flatten", ["p"], ["f"]),
        make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    assert [op.code for op in operators(nodes, w=weights(5, 4))] == ["REDUCE_MAX", "FULLY_CONNECTED"]


def test_a_dense_layer_on_rows_keeps_its_axes(operators: Any) -> None:
    """Exporters reshape to rows and back around a dense layer; FULLY_CONNECTED takes all axes."""
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        make_node("Reshape", ["t", "rows"], ["r"]),
        make_node("Gemm", ["r", "w", "b"], ["g"], transB=1),
        make_node("Reshape", ["g", "axes"], ["u"]),
        make_node("Relu", ["u"], ["y"]),
    ]
    constants = {"rows": np.array([-1, 4]), "axes": np.array([1, 8, 8, 6]), "w": weights(6, 4), "b": weights(6)}
    [operator] = operators(nodes, **constants)
    assert operator.code == "FULLY_CONNECTED"
    assert operator.options["keep_num_dims"]
    assert operator.options["fused_activation_function"] == ACTIVATIONS["RELU"]


@pytest.mark.parametrize(("axes", "second"), [([1, 4, 16, 6], False), ([1, 8, 8, 6], True)])
def test_a_dense_layer_whose_axes_change_keeps_its_reshapes(axes: list[int], second: bool, operators: Any) -> None:
    nodes = [
        make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        make_node("Reshape", ["t", "rows"], ["r"]),
        make_node("Gemm", ["r", "w"], ["g"], transB=1),
        make_node("Reshape", ["g", "axes"], ["y"]),
        *([make_node("Exp", ["g"], ["z"])] if second else []),
    ]
    outputs = ("y", "z") if second else ("y",)
    found = operators(nodes, outputs, rows=np.array([-1, 4]), axes=np.array(axes), w=weights(6, 4))
    [dense] = [op for op in found if op.code == "FULLY_CONNECTED"]
    assert not dense.options.get("keep_num_dims")


def test_hard_sigmoid_is_a_sixth_of_a_relu6_in_the_convolution(operators: Any) -> None:
    nodes = [
        make_node("Conv", ["x", "w"], ["c"]),
        make_node("HardSigmoid", ["c"], ["y"], alpha=1 / 6, beta=0.5),
    ]
    found = operators(nodes, w=weights(4, 4, 1, 1))
    assert [op.code for op in found] == ["CONV_2D", "MUL"]
    assert found[0].options["fused_activation_function"] == ACTIVATIONS["RELU6"]


def _block(scale: np.ndarray) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Layer normalisation over channels, a dense layer, GELU by erf, hard swish: each spelled out."""
    steps = [
        ("ReduceMean", ["t", "last"], "m"), ("Sub", ["t", "m"], "d"), ("Mul", ["d", "d"], "q"),
        ("ReduceMean", ["q", "last"], "v"), ("Add", ["v", "epsilon"], "e"), ("Sqrt", ["e"], "s"),
        ("Div", ["d", "s"], "n"), ("Mul", ["n", "scale"], "f"), ("MatMul", ["f", "w"], "p"),
        ("Div", ["p", "root"], "a"), ("Erf", ["a"], "erf"), ("Add", ["erf", "one"], "o"), ("Mul", ["p", "o"], "h"),
        ("Mul", ["h", "half"], "g"),
        ("Add", ["g", "three"], "c"), ("Clip", ["c", "zero", "six"], "k"), ("Mul", ["g", "k"], "j"),
        ("Div", ["j", "six"], "y"),
    ]  # fmt: skip
    numbers = {"epsilon": 1e-5, "root": np.sqrt(2), "one": 1, "half": 0.5, "three": 3, "zero": 0, "six": 6}
    constants = {name: np.float32(number) for name, number in numbers.items()}
    constants |= {"last": np.array([3]), "scale": scale, "w": weights(4, 6)}
    nodes = [make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1])]
    return nodes + [make_node(op, inputs, [output]) for op, inputs, output in steps], constants


LAYER_NORM = ["MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL"]


@pytest.mark.parametrize("scaled", [False, True])
def test_formulas_take_as_many_operators_as_litert_has_kernels_for(scaled: bool, operators: Any) -> None:
    nodes, constants = _block(weights(4) if scaled else np.ones(4, np.float32))
    expected = [*LAYER_NORM, *(["MUL"] if scaled else []), "FULLY_CONNECTED", "GELU", "HARD_SWISH"]
    assert [op.code for op in operators(nodes, **constants)] == expected
