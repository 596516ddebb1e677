"""GridSample, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.helper import make_node

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(2, 3, 5, 6)).astype(np.float32)
GRID = GENERATOR.uniform(-1.6, 1.6, (2, 4, 3, 2)).astype(np.float32)


@pytest.mark.parametrize("align_corners", [0, 1])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_images(bench, mode: str, padding_mode: str, align_corners: int) -> None:
    node = make_node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding_mode, align_corners=align_corners)
    bench.agree([node], {"x": X, "g": GRID})


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_volumes(bench, mode: str) -> None:
    x = GENERATOR.normal(size=(1, 2, 3, 4, 5)).astype(np.float32)
    grid = GENERATOR.uniform(-1.3, 1.3, (1, 2, 2, 3, 3)).astype(np.float32)
    bench.agree([make_node("GridSample", ["x", "g"], ["y"], mode=mode)], {"x": x, "g": grid})
