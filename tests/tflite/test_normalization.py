"""Normalizations against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError

Random = np.random.Generator


def floats(random: Random, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5), (1, 3, 2, 4, 5)], ids=str)
def test_batch(shape: tuple[int, ...], bench: Any, random: Random) -> None:
    names = ("scale", "bias", "mean", "variance")
    constants = {name: floats(random, 3) for name in names} | {"variance": random.random(3).astype(np.float32) + 0.1}
    node = make_node("BatchNormalization", ["x", *names], ["y"], epsilon=1e-3)
    bench.agree([node], {"x": floats(random, *shape)}, constants=constants)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 6, 5), (1, 4, 2, 3, 5)], ids=str)
@pytest.mark.parametrize(("op", "given"), [("InstanceNormalization", {}), ("GroupNormalization", {"num_groups": 2})])
def test_instance_and_group(op: str, given: dict[str, Any], shape: tuple[int, ...], bench: Any, random: Random) -> None:
    constants = {"s": floats(random, 4), "b": floats(random, 4)}
    x = floats(random, *shape) + 3
    declared = {"y": x}  # onnx does not infer GroupNormalization's shape
    bench.agree([make_node(op, ["x", "s", "b"], ["y"], **given)], {"x": x}, constants=constants, declared=declared)


@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_layer(axis: int, bench: Any, random: Random) -> None:
    x = floats(random, 2, 3, 4, 5)
    constants = {"s": floats(random, *x.shape[axis:]), "b": floats(random, *x.shape[axis:])}
    node = make_node("LayerNormalization", ["x", "s", "b"], ["y", "mean", "deviation"], axis=axis)
    bench.agree([node], {"x": x}, ["y", "mean", "deviation"], constants=constants)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [1, -1])
def test_lp(axis: int, p: int, bench: Any, random: Random) -> None:
    x = floats(random, 2, 3, 4)
    x[1] *= 1e-8  # below the floor of 1e-6 that TFLite's own L2 normalization has
    bench.agree([make_node("LpNormalization", ["x"], ["y"], axis=axis, p=p)], {"x": x})


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response(size: int, bench: Any, random: Random) -> None:
    node = make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, beta=0.7, bias=1.5)
    bench.agree([node], {"x": floats(random, 2, 7, 4, 3) * 3})


def test_even_local_response_is_refused(bench: Any, graph_of: Any, random: Random) -> None:
    x = floats(random, 1, 4, 2, 2)
    with pytest.raises(UnsupportedError, match="even number"):
        bench.write(graph_of([make_node("LRN", ["x"], ["y"], size=4)], {"x": x}, ["y"]))
