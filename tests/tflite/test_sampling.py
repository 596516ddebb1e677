"""GridSample and Fourier transforms against onnxruntime and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

Random = np.random.Generator


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_sample(mode: str, padding: str, align: int, bench: Any, random: Random) -> None:
    x = random.standard_normal((2, 3, 5, 6)).astype(np.float32)
    grid = random.uniform(-1.4, 1.4, (2, 4, 3, 2)).astype(np.float32)
    node = make_node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding, align_corners=align)
    # Coordinates of up to 6 are off by an ulp (4e-7) or two, and the surface falls by a few units an element.
    bench.agree([node], {"x": x, "g": grid}, tolerance=1e-5)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_grid_sample_of_volumes(mode: str, bench: Any, random: Random) -> None:
    x = random.standard_normal((1, 2, 3, 4, 5)).astype(np.float32)
    grid = random.uniform(-1.2, 1.2, (1, 2, 3, 2, 3)).astype(np.float32)
    bench.agree([make_node("GridSample", ["x", "g"], ["y"], mode=mode)], {"x": x, "g": grid})


@pytest.mark.parametrize("length", [None, 8, 5])
@pytest.mark.parametrize("onesided", [0, 1])
def test_dft(onesided: int, length: int | None, graph_of: Any, bench: Any, run: Any, random: Random) -> None:
    x = random.standard_normal((2, 7, 3, 1)).astype(np.float32)
    constants = {"a": np.array(1), **({} if length is None else {"n": np.array(length)})}
    node = make_node("DFT", ["x", "n" if length else "", "a"], ["y"], onesided=onesided)
    bench.write(graph_of([node], {"x": x}, ["y"], constants))
    expected = (np.fft.rfft if onesided else np.fft.fft)(x[..., 0], length, axis=1)
    for xnnpack in (True, False):
        found = run(bench.data, {"x": x}, xnnpack)["y"]
        # Sums of at most 8 products of magnitudes near 1: 8 ulp of 8.
        np.testing.assert_allclose(found, np.stack([expected.real, expected.imag], -1), atol=8e-6)


def test_inverse_dft(graph_of: Any, bench: Any, run: Any, random: Random) -> None:
    spectrum = np.fft.fft(random.standard_normal((3, 6)) + 1j * random.standard_normal((3, 6)))
    x = np.stack([spectrum.real, spectrum.imag], -1).astype(np.float32)
    bench.write(graph_of([make_node("DFT", ["x"], ["y"], inverse=1)], {"x": x}, ["y"]))
    expected = np.fft.ifft(x[..., 0] + 1j * x[..., 1])
    np.testing.assert_allclose(run(bench.data, {"x": x})["y"], np.stack([expected.real, expected.imag], -1), atol=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
def test_stft(onesided: int, bench: Any, random: Random) -> None:
    x = random.standard_normal((2, 64, 1)).astype(np.float32)
    constants = {"s": np.array(8), "w": np.hanning(16).astype(np.float32), "n": np.array(16)}
    bench.agree([make_node("STFT", ["x", "s", "w", "n"], ["y"], onesided=onesided)], {"x": x}, constants=constants)
