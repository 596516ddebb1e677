"""Resize in every mode against onnxruntime, and the MIL op that is chosen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnx.helper import make_node

X = np.random.default_rng(9).normal(size=(1, 2, 4, 5)).astype(np.float32)
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
SIZES = {"double": (8, 10), "half": (2, 2), "uneven": (7, 3), "one": (1, 5)}


def resize(bench, size, reference=False, **attributes):
    constants = {"sizes": np.array([1, 2, *size], np.int64)}
    node = make_node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)
    return bench.agree([node], {"x": X}, constants=constants, reference=reference)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation(bench, size, coordinates, mode) -> None:
    resize(bench, SIZES[size], mode=mode, coordinate_transformation_mode=coordinates)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("coordinates", "rounding"),
    itertools.product(COORDINATES, ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
)
def test_nearest(bench, size, coordinates, rounding) -> None:
    # onnxruntime's float32 takes 1.5/0.6 - 0.5 for less than 2 in this mode: there onnx's own implementation decides.
    reference = coordinates == "half_pixel_symmetric"
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    resize(bench, SIZES[size], reference, mode="nearest", **attributes)


@pytest.mark.parametrize("scales", [(1, 1, 2, 2), (1, 1, 1.7, 0.6), (1, 2, 1, 1)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales_are_taken_as_given(bench, scales, mode) -> None:
    """With scales the coordinates use them, not the rounded ratio of the sizes."""
    constants = {"scales": np.array(scales, np.float32)}
    bench.agree([make_node("Resize", ["x", "", "scales"], ["y"], mode=mode)], {"x": X}, constants=constants)


@pytest.mark.parametrize(
    ("attributes", "ops"),
    [
        ({"mode": "nearest"}, ["upsample_nearest_neighbor"]),
        (
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            ["upsample_nearest_neighbor"],
        ),
        ({"mode": "linear"}, ["resize_bilinear"]),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, ["resize_bilinear"]),
        ({"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, ["resize_bilinear"]),
    ],
)
def test_the_native_op_is_used_where_it_is_the_same(bench, ops_of, attributes, ops) -> None:
    assert ops_of(resize(bench, SIZES["double"], **attributes).path) == ops


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_kept_aspect_ratio(bench, policy) -> None:
    constants = {"sizes": np.array([7, 8], np.int64)}
    node = make_node("Resize", ["x", "", "", "sizes"], ["y"], axes=[2, 3], keep_aspect_ratio_policy=policy)
    bench.agree([node], {"x": X}, constants=constants)


@pytest.mark.parametrize("exclude", [0, 1])
def test_cubic_parameters(bench, exclude) -> None:
    resize(bench, (6, 9), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=exclude)


@pytest.mark.parametrize("size", [(3, 4), (2, 9)])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased(bench, mode, size) -> None:
    resize(bench, size, mode=mode, antialias=1)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_crops(bench, mode) -> None:
    """A part of the region lies outside of the image. (Onnxruntime ignores it where the size stays the same.)"""
    constants = {
        "roi": np.array([0, 0, 0.1, 0.4, 1, 1, 0.7, 1.3], np.float32),
        "sizes": np.array([*X.shape[:2], 6, 3], np.int64),
    }
    node = make_node(
        "Resize",
        ["x", "roi", "", "sizes"],
        ["y"],
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.5,
    )
    bench.agree([node], {"x": X}, constants=constants)
