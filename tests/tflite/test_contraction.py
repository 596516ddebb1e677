"""Einsum, scatters that reduce, integer products, boxes and uint64 against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator


def floats(random: Random, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("i,j", [(3,), (4,)]),
        ("...ij,...jk->...ik", [(2, 3, 4), (1, 4, 5)]),
        ("ij->", [(3, 4)]),
        ("bii->bi", [(2, 3, 3)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)]),
        ("ij,k->kj", [(2, 3), (4,)]),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], bench: Any, random: Random) -> None:
    feeds = {f"x{n}": floats(random, *shape) for n, shape in enumerate(shapes)}
    bench.agree([make_node("Einsum", list(feeds), ["y"], equation=equation)], feeds)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("reduction", ["mul", "max", "min"])
def test_scatters_that_reduce(reduction: str, dtype: str, bench: Any, random: Random) -> None:
    x, u = (random.integers(-5, 5, shape).astype(dtype) for shape in ((4, 3), (3, 3)))
    feeds = {"x": x, "i": np.array([[1], [-1], [1]]), "u": u}
    bench.agree([make_node("ScatterND", ["x", "i", "u"], ["y"], reduction=reduction)], feeds)
    feeds = {"x": x, "i": np.array([[1, 1, 0], [0, 1, 0], [1, 0, 2]]), "u": u}
    bench.agree([make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=1, reduction=reduction)], feeds)


def test_integer_matmul_is_exact_beyond_what_one_float_sum_holds(bench: Any) -> None:
    x, y = np.full((3, 1000), 255, np.uint8), np.full((1000, 2), 255, np.uint8)  # sums of 65,025,000 need 26 bits
    x[:, 0] = 254
    nodes = [make_node("MatMulInteger", ["x", "k", "a", "b"], ["y"])]
    constants = {"a": np.array(1, np.uint8), "b": np.array(0, np.uint8)}
    bench.agree(nodes, {"x": x, "k": y}, constants=constants)


def test_quantized_matmul_and_convolutions(bench: Any, random: Random) -> None:
    x, y = (random.integers(0, 255, shape).astype(np.uint8) for shape in ((2, 3, 8), (2, 8, 4)))
    scale, zero = np.array(0.02, np.float32), np.array(120, np.uint8)
    names = ["x", "s", "z", "k", "s", "z", "o", "z"]
    constants = {"s": scale, "z": zero, "o": np.array(0.1, np.float32)}
    bench.agree([make_node("QLinearMatMul", names, ["y"])], {"x": x, "k": y}, constants=constants)
    x = random.integers(0, 255, (1, 2, 6, 6)).astype(np.uint8)
    weights = random.integers(0, 255, (3, 2, 3, 3)).astype(np.uint8)
    node = make_node("ConvInteger", ["x", "w", "z"], ["y"], pads=[1, 1, 1, 1])
    bench.agree([node], {"x": x}, constants={"w": weights, "z": zero})
    node = make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "o", "z"], ["y"], pads=[1, 1, 1, 1])
    bench.agree([node], {"x": x}, constants={"w": weights, **constants, "o": np.array(0.9, np.float32)})


@pytest.mark.parametrize("center", [0, 1])
def test_boxes(center: int, bench: Any, random: Random) -> None:
    low = random.uniform(0, 4, (2, 9, 2))
    boxes = np.concatenate([low, random.uniform(1, 3, low.shape) + (0 if center else low)], -1).astype(np.float32)
    scores = random.permutation(54).reshape(2, 3, 9).astype(np.float32)
    constants = {"m": np.array([3]), "o": np.array([0.3], np.float32), "t": np.array([10.5], np.float32)}
    from onnx.reference import ReferenceEvaluator

    node = make_node("NonMaxSuppression", ["x", "s", "m", "o", "t"], ["y"], center_point_box=center)
    feeds = {"x": boxes, "s": scores}
    found = ReferenceEvaluator(node).run(None, {**feeds, **constants})[0]
    bench.agree([node], feeds, constants=constants, declared={"y": np.asarray(found, np.int64)})


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Max", "Min", "Less", "GreaterOrEqual", "Equal"])
def test_uint64(op: str, bench: Any) -> None:
    x = np.array([0, 1, 2**63 - 1, 2**63, 2**64 - 1, 7], np.uint64)
    bench.agree([make_node(op, ["x", "k"], ["y"])], {"x": x, "k": x[::-1].copy()})
