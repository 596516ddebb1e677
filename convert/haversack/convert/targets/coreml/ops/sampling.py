"""GridSample where MIL's `resample` has its rules; the others are restated in the hub as gathers and arithmetic."""

from __future__ import annotations

import onnx_ir as ir

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers

PADDINGS = {"zeros": "constant", "border": "border"}
"""ONNX's paddings to `resample`'s. Its reflections are about other points where corners are not aligned."""


def native(node: ir.Node) -> bool:
    """Whether a GridSample is a `resample`: images, interpolated linearly (`nearest` rounds halves otherwise)."""
    grid = node.inputs[1]
    image = grid is not None and grid.shape is not None and len(grid.shape) == 4
    mode = str(node.attributes.get_string("mode", "linear"))
    padding = str(node.attributes.get_string("padding_mode", "zeros"))
    return image and mode == "linear" and padding in PADDINGS


@lowers("GridSample")
def grid_sample(
    b: Builder, x: Value, grid: Value, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Var:
    """`resample` at coordinates from -1 to 1, in the order (x, y)."""
    if x.rank != 4 or mode != "linear" or padding_mode not in PADDINGS:
        b.refuse(
            f"a graph whose GridSample (mode {mode}, padding {padding_mode}) was not restated", "report this model"
        )
    coordinates = b.var(grid)
    return b.raw(
        "resample",
        x=b.var(x),
        coordinates=b.cast(coordinates, "fp32") if b.ios < 16 else coordinates,  # of float16 from iOS 16 on
        sampling_mode=b.constant("bilinear"),
        padding_mode=b.constant(PADDINGS[padding_mode]),
        padding_value=b.constant(0.0),
        coordinates_mode=b.constant("normalized_minus_one_to_one"),
        align_corners=b.constant(bool(align_corners)),
    )
