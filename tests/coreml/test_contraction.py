"""Einsum, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "i": 3, "j": 3}


@pytest.mark.parametrize(
    "equation",
    ["ab,bc->ac", "abc,cd", "ij->ji", "ii->i", "ii", "abc->b", "ab,ac,ad->bcd", "abcd,abdc->ab", "a,b->ba", "iji,j->i"],
)
def test_einsum(bench, equation: str) -> None:
    generator = np.random.default_rng(0)
    terms = equation.split("->")[0].split(",")
    inputs = {f"x{n}": generator.normal(size=[SIZES[c] for c in t]).astype(np.float32) for n, t in enumerate(terms)}
    wanted = np.einsum(equation, *(x.astype(np.float64) for x in inputs.values()))
    node = make_node("Einsum", list(inputs), ["y"], equation=equation)
    bench.agree([node], inputs, wanted={"y": wanted.reshape(wanted.shape or (1,))})


def test_ellipsis(bench) -> None:
    x, y = (np.random.default_rng(n).normal(size=(2, 3, 3)).astype(np.float32) for n in (1, 2))
    wanted = np.einsum("...ij,...jk->...ik", x, y)
    node = make_node("Einsum", ["x", "o"], ["y"], equation="...ij,...jk->...ik")
    bench.agree([node], {"x": x, "o": y}, wanted={"y": wanted})
