"""DFT and STFT, against NumPy's transforms."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

GENERATOR = np.random.default_rng(0)


def pairs(z: np.ndarray) -> np.ndarray:
    return np.stack([z.real, z.imag], -1)


@pytest.mark.parametrize("length", [10, 7, 16])
@pytest.mark.parametrize("inverse", [0, 1])
def test_complex(bench, inverse: int, length: int) -> None:
    x = GENERATOR.normal(size=(2, 3, 10, 2)).astype(np.float32)
    z = x[..., 0] + 1j * x[..., 1]
    wanted = pairs((np.fft.ifft if inverse else np.fft.fft)(z, length, axis=2))
    constants = {"length": np.array(length, np.int64), "axis": np.array(2, np.int64)}
    bench.agree(
        [make_node("DFT", ["x", "length", "axis"], ["y"], inverse=inverse)],
        {"x": x},
        constants=constants,
        wanted={"y": wanted},
    )


def test_onesided(bench) -> None:
    x = GENERATOR.normal(size=(2, 9, 1)).astype(np.float32)
    constants = {"axis": np.array(1, np.int64)}
    node = make_node("DFT", ["x", "", "axis"], ["y"], onesided=1)
    bench.agree([node], {"x": x}, constants=constants, wanted={"y": pairs(np.fft.rfft(x[..., 0], axis=1))})


@pytest.mark.parametrize("onesided", [0, 1])
def test_frames(bench, onesided: int) -> None:
    x, window = GENERATOR.normal(size=(2, 32, 1)).astype(np.float32), np.hanning(8).astype(np.float32)
    frames = np.stack([x[:, n : n + 8, 0] * window for n in range(0, 25, 3)], 1)
    wanted = pairs((np.fft.rfft if onesided else np.fft.fft)(frames, axis=2))
    node = make_node("STFT", ["x", "step", "window"], ["y"], onesided=onesided)
    bench.agree([node], {"x": x}, constants={"step": np.array(3, np.int64), "window": window}, wanted={"y": wanted})


def test_layers_are_called_after_the_model_s_own_nodes(bench) -> None:
    """A restated operator is one layer under its name, and its inner values have no tap."""
    x = GENERATOR.normal(size=(2, 9, 1)).astype(np.float32)
    nodes = [make_node("DFT", ["x"], ["d"], name="transform"), make_node("Relu", ["d"], ["y"], name="last")]
    wanted = np.maximum(pairs(np.fft.fft(x[..., 0], axis=1)), 0)
    written = bench.agree(nodes, {"x": x}, wanted={"y": wanted})
    taps = [
        (layer.name, [tap.value for tap in layer.inputs], [tap.value for tap in layer.outputs])
        for layer in written.layers
    ]
    assert taps == [("transform", ["x"], ["d"]), ("last", ["d"], ["y"])]
