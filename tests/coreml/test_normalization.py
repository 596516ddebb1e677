"""Normalisations against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node, make_tensor_value_info

RNG = np.random.default_rng(6)


def normal(*shape: int) -> np.ndarray:
    return (2 * RNG.normal(size=shape) + 1).astype(np.float32)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.5, 2, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (1, 3, 4, 5), (1, 3, 2, 4, 5)])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-2])
def test_batch_normalization(bench, shape, epsilon) -> None:
    constants = {"g": normal(3), "b": normal(3), "m": normal(3), "v": positive(3)}
    node = make_node("BatchNormalization", ["x", *constants], ["y"], epsilon=epsilon)
    bench.agree([node], {"x": normal(*shape)}, constants=constants)


def test_batch_normalization_by_the_batch(bench) -> None:
    constants = {"g": normal(3), "b": normal(3), "m": normal(3), "v": positive(3)}
    node = make_node("BatchNormalization", ["x", *constants], ["y", "rm", "rv"], training_mode=1, momentum=0.7)
    bench.agree([node], {"x": normal(2, 3, 4)}, ["y", "rm", "rv"], constants, reference=True)


@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 3, 4, 5), (1, 3, 2, 4, 5)])
def test_instance_normalization(bench, shape) -> None:
    constants = {"g": normal(3), "b": normal(3)}
    node = make_node("InstanceNormalization", ["x", *constants], ["y"], epsilon=1e-3)
    bench.agree([node], {"x": normal(*shape)}, constants=constants)


@pytest.mark.parametrize(("axis", "scale"), [(-1, (5,)), (1, (4, 5)), (1, (5,)), (-1, (1,))])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(bench, ops_of, axis, scale, bias) -> None:
    constants = {"g": normal(*scale)} | ({"b": normal(*scale)} if bias else {})
    node = make_node("LayerNormalization", ["x", *constants], ["y"], axis=axis)
    x = normal(3, 4, 5)
    written = bench.agree([node], {"x": x}, constants=constants)
    assert (ops_of(written.path) == ["layer_norm"]) == (scale == x.shape[axis:])


def test_layer_normalization_with_statistics(bench) -> None:
    node = make_node("LayerNormalization", ["x", "g"], ["y", "mean", "inverse"])
    bench.agree([node], {"x": normal(3, 5)}, ["y", "mean", "inverse"], {"g": normal(5)})


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalization(bench, groups) -> None:
    node = make_node("GroupNormalization", ["x", "g", "b"], ["y"], num_groups=groups)
    x, output = normal(2, 6, 3, 4), make_tensor_value_info("y", TensorProto.FLOAT, (2, 6, 3, 4))
    bench.agree([node], {"x": x}, [output], {"g": normal(6), "b": normal(6)})


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_local_response_normalization(bench, size) -> None:
    """onnxruntime takes odd sizes only: even ones are compared with the specification's formula, written out."""
    x = normal(1, 7, 3, 4)
    node = make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, beta=0.6, bias=1.5)
    sums = [(x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1] ** 2).sum(axis=1) for c in range(7)]
    wanted = x / (1.5 + 0.5 / size * np.stack(sums, axis=1)) ** 0.6
    bench.agree([node], {"x": x}, wanted={"y": wanted})


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, -1])
def test_lp_normalization(bench, p, axis) -> None:
    x = normal(4, 5)
    x[0] = x[:, 0] = 0  # a norm of zero on either axis
    bench.agree([make_node("LpNormalization", ["x"], ["y"], p=p, axis=axis)], {"x": x})


def test_mean_variance_normalization(bench) -> None:
    bench.agree([make_node("MeanVarianceNormalization", ["x"], ["y"], axes=[0, 2, 3])], {"x": normal(2, 3, 4, 5)})
