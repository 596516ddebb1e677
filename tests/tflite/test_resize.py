"""Resize against onnxruntime: every coordinate mode, up and down, by scales and by sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx.helper import make_node

from haversack.convert.errors import UnsupportedError

Random = np.random.Generator

COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
SIZES = [(8, 12), (4, 6), (7, 11), (2, 3), (5, 1), (4, 9)]
RESIZED = 2e-5
"""Interpolation weights are differences of float32 coordinates up to 12: 12 × 6e-8 / 1, twice (two axes), of the range
of the data (values lie within ±3), so at most about 1e-5 of the largest value."""


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_sizes(mode: str, coordinates: str, size: tuple[int, int], bench: Any, random: Random) -> None:
    x = random.standard_normal((2, 3, 4, 6)).astype(np.float32)
    node = make_node("Resize", ["x", "", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=coordinates)
    bench.agree([node], {"x": x}, constants={"s": np.array([2, 3, *size])}, tolerance=RESIZED)


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.7, 0.6), (0.5, 3.0)], ids=str)
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners"])
def test_nearest(coordinates: str, scales: tuple[float, float], nearest: str, bench: Any, random: Random) -> None:
    x = random.standard_normal((1, 2, 5, 7)).astype(np.float32)
    given = {"nearest_mode": nearest, "coordinate_transformation_mode": coordinates}
    constants = {"s": np.array([1, 1, *scales], np.float32)}
    bench.agree([make_node("Resize", ["x", "", "s"], ["y"], **given)], {"x": x}, constants=constants)


@pytest.mark.parametrize("scales", [(2.0, 2.0), (1.7, 0.6)], ids=str)
def test_linear_by_scales(scales: tuple[float, float], bench: Any, random: Random) -> None:
    x = random.standard_normal((1, 2, 5, 7)).astype(np.float32)
    constants = {"s": np.array([1, 1, *scales], np.float32)}
    bench.agree(
        [make_node("Resize", ["x", "", "s"], ["y"], mode="linear")], {"x": x}, constants=constants, tolerance=RESIZED
    )


@pytest.mark.parametrize("rank", [3, 5])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_other_ranks(mode: str, rank: int, bench: Any, random: Random) -> None:
    x = random.standard_normal((1, 2, 4, 5, 3)[:rank]).astype(np.float32)
    constants = {"s": np.array([1, 1, 2, 2, 2][:rank], np.float32)}
    bench.agree(
        [make_node("Resize", ["x", "", "s"], ["y"], mode=mode)], {"x": x}, constants=constants, tolerance=RESIZED
    )


def test_native_kernels_are_used_where_they_are_exact(bench: Any, random: Random) -> None:
    x = random.standard_normal((1, 3, 4, 4)).astype(np.float32)
    constants = {"s": np.array([1, 1, 2, 2], np.float32)}
    for mode, code in (("nearest", "RESIZE_NEAREST_NEIGHBOR"), ("linear", "RESIZE_BILINEAR")):
        written = bench.agree(
            [make_node("Resize", ["x", "", "s"], ["y"], mode=mode)], {"x": x}, constants=constants, tolerance=RESIZED
        )
        assert code in {layer.op for layer in written.layers}


@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("scale", [2.0, 0.5, 0.8])
def test_cubic_and_antialiased(scale: float, mode: str, antialias: int, bench: Any, random: Random) -> None:
    x = random.standard_normal((1, 2, 10, 10)).astype(np.float32)
    node = make_node("Resize", ["x", "", "s"], ["y"], mode=mode, antialias=antialias)
    constants = {"s": np.array([1, 1, scale, scale], np.float32)}
    bench.agree([node], {"x": x}, constants=constants, tolerance=RESIZED)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop(mode: str, bench: Any, random: Random) -> None:
    x = random.standard_normal((1, 2, 6, 6)).astype(np.float32)
    given = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
    node = make_node("Resize", ["x", "r", "", "z"], ["y"], **given)
    region = np.array([0, 0, 0.13, -0.2, 1, 1, 1.3, 0.9], np.float32)
    bench.agree([node], {"x": x}, constants={"r": region, "z": np.array([1, 2, 5, 4])}, tolerance=RESIZED)


def test_what_runtimes_disagree_on_is_refused(bench: Any, graph_of: Any, random: Random) -> None:
    x = random.standard_normal((1, 1, 4, 4)).astype(np.float32)
    node = make_node("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners")
    with pytest.raises(UnsupportedError, match="fractional"):
        bench.write(graph_of([node], {"x": x}, ["y"], {"s": np.array([1, 1, 0.6, 0.6], np.float32)}))
