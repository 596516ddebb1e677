"""Matrix products against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator


def floats(random: Random, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


SHAPES = [
    ((4, 5), (5, 6)),
    ((2, 4, 5), (5, 6)),
    ((5,), (5, 6)),
    ((4, 5), (5,)),
    ((5,), (5,)),
    ((2, 3, 4, 5), (2, 3, 5, 6)),
    ((2, 1, 4, 5), (1, 3, 5, 6)),
    ((3, 4, 5), (2, 3, 5, 6)),
    ((4, 5), (2, 3, 5, 6)),
    ((2, 1, 2, 3, 4, 5), (1, 2, 1, 1, 5, 2)),
]


@pytest.mark.parametrize("constant", [False, True], ids=["two activations", "constant weights"])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_matmul(shapes: tuple[tuple[int, ...], tuple[int, ...]], constant: bool, bench: Any, random: Random) -> None:
    arrays = {"a": floats(random, *shapes[0]), "b": floats(random, *shapes[1])}
    node = make_node("MatMul", ["a", "b"], ["y"])
    if constant:
        bench.agree([node], {"a": arrays["a"]}, constants={"b": arrays["b"]})
    else:
        bench.agree([node], arrays)


@pytest.mark.parametrize("bias", [None, (6,), (1, 6), (4, 1), (4, 6), (1,), ()], ids=str)
@pytest.mark.parametrize(
    "given", [{}, {"transA": 1}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transA": 1, "transB": 1}], ids=str
)
@pytest.mark.parametrize("constant", [False, True], ids=["activations", "constants"])
def test_gemm(constant: bool, given: dict[str, Any], bias: tuple[int, ...] | None, bench: Any, random: Random) -> None:
    x = floats(random, *((5, 4) if given.get("transA") else (4, 5)))
    others = {"b": floats(random, *((6, 5) if given.get("transB") else (5, 6)))}
    if bias is not None:
        others["c"] = floats(random, *bias)
    node = make_node("Gemm", ["x", *others], ["y"], **given)
    if constant:
        bench.agree([node], {"x": x}, constants=others)
    else:
        bench.agree([node], {"x": x, **others})
