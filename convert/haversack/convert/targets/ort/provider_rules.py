"""The conditions under which execution providers take a node, as functions that give the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from haversack.runtimes.engines import Array

FLOAT, FLOAT16, BOOL, INT32 = 1, 10, 9, 6
"""onnx.TensorProto.DataType."""


@dataclass(frozen=True)
class Seen:
    """A node as a provider sees it.

    Attributes:
        node: In the graph after onnxruntime's basic optimisations.
        types: Element type and shape of each value; a size that is not fixed is None, an unknown shape too.
        constants: Initializers by name; the larger ones without their numbers.
    """

    node: onnx.NodeProto
    types: Mapping[str, tuple[int, tuple[int | None, ...] | None]]
    constants: Mapping[str, Array | None]

    def given(self, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def constant(self, index: int) -> bool:
        """Whether an input is a constant."""
        return self.given(index) and self.node.input[index] in self.constants

    def array(self, index: int) -> Array | None:
        """A constant input's numbers, where they are few."""
        return self.constants.get(self.node.input[index]) if self.given(index) else None

    def dtype(self, index: int) -> int:
        """Element type of an input, 0 where it is unknown."""
        return self.types.get(self.node.input[index], (0, None))[0] if self.given(index) else 0

    def shape(self, index: int = 0) -> tuple[int | None, ...] | None:
        """Shape of an input."""
        return self.types.get(self.node.input[index], (0, None))[1] if self.given(index) else None

    def rank(self, index: int = 0) -> int | None:
        """Count of an input's axes; None where it is unknown."""
        shape = self.shape(index)
        return None if shape is None else len(shape)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value, strings as text."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default


Rule = Callable[[Seen], str | None]
"""Gives the reason why a provider does not take a node, or None."""


def ranks(*allowed: int) -> Rule:
    """The first input has one of these ranks."""
    names = {3: "1D", 4: "2D", 5: "3D"}
    said = " or ".join(names.get(rank, f"rank {rank}") for rank in allowed)
    return lambda seen: None if seen.rank() in allowed else f"only {said} is supported"


def constant(*indices: int, what: str) -> Rule:
    """Inputs that must be constants where they are given."""

    def rule(seen: Seen) -> str | None:
        wrong = [index for index in indices if seen.given(index) and not seen.constant(index)]
        return f"{what} must be constant" if wrong else None

    return rule


def equals(name: str, *allowed: Any, default: Any) -> Rule:
    """An attribute has one of these values."""
    said = " or ".join(map(str, allowed))
    return lambda seen: None if seen.attribute(name, default) in allowed else f"{name} must be {said}"


def absent(name: str, neutral: Any = None) -> Rule:
    """An attribute is not given, or neutral."""

    def rule(seen: Seen) -> str | None:
        value = seen.attribute(name)
        blank = value is None or (neutral is not None and all(each == neutral for each in value))
        return None if blank else f"{name} is not supported"

    return rule


def dtypes(index: int, *allowed: int, what: str) -> Rule:
    """An input has one of these element types."""
    return lambda seen: None if seen.dtype(index) in allowed else what


def at_most(rank: int) -> Rule:
    """The first input has no more axes."""
    return lambda seen: None if (seen.rank() or 0) <= rank else f"only up to {rank} axes are supported"


weights_constant = constant(1, 2, what="weights and bias")
bias_constant = constant(2, what="the bias")
scales_constant = constant(1, 2, what="scale and zero point")
scales_constant_linear = constant(1, 2, 4, 5, 6, 7, what="scales and zero points")
axes_constant = constant(1, what="axes")


def gemm_b(seen: Seen) -> str | None:
    """NNAPI: a B that is computed must come transposed."""
    return None if seen.constant(1) or seen.attribute("transB", 0) == 1 else "a B that is computed needs transB = 1"


def gather_indices(seen: Seen) -> str | None:
    """NNAPI: indices are constant, or int32."""
    return None if seen.constant(1) or seen.dtype(1) == INT32 else "indices must be constant or int32"


def even_split(seen: Seen) -> str | None:
    """NNAPI: all parts have one size."""
    shape, sizes = seen.shape(), seen.array(1)
    if sizes is not None:
        return None if len({int(size) for size in sizes}) <= 1 else "the parts must be of one size"
    axis = seen.attribute("axis", 0)
    length = shape[axis] if shape is not None else None
    return None if length is not None and length % len(seen.node.output) == 0 else "the parts must be of one size"


def pads_positive(seen: Seen) -> str | None:
    """NNAPI: a Pad adds, it does not crop."""
    pads = seen.array(1)
    return "pads must not be negative" if pads is not None and (np.asarray(pads) < 0).any() else None


def softmax_last(seen: Seen) -> str | None:
    """XNNPACK: over the last axis."""
    axis, rank = seen.attribute("axis", -1), seen.rank()
    return None if axis == -1 or (rank is not None and axis == rank - 1) else "the axis must be the last"


def crd_needs_sizes(seen: Seen) -> str | None:
    """Core ML: DepthToSpace of columns, rows, depth knows its sizes."""
    shape = seen.shape()
    known = shape is not None and None not in shape
    return None if known or seen.attribute("mode", "DCR") == "DCR" else "mode CRD needs a fixed shape"


def grid_sample(seen: Seen) -> str | None:
    """Core ML: no reflection at half pixels."""
    mode = seen.attribute("mode", "linear")
    if seen.rank() != 4 or mode not in ("linear", "bilinear"):
        return "only linear sampling of 4 axes is supported"
    if seen.attribute("padding_mode", "zeros") == "reflection" and not seen.attribute("align_corners", 0):
        return "reflection needs align_corners"
    return None


def plain_gemm(seen: Seen) -> str | None:
    """Core ML: no scaling, A as it is."""
    plain = seen.attribute("alpha", 1.0) == 1.0 and seen.attribute("beta", 1.0) == 1.0
    return (
        None if plain and not seen.attribute("transA", 0) else "only transA = 0, alpha = 1 and beta = 1 are supported"
    )


def unscaled(seen: Seen) -> str | None:
    """XNNPACK: a Gemm without factors."""
    plain = seen.attribute("alpha", 1.0) == 1.0 and seen.attribute("beta", 1.0) == 1.0
    return None if plain else "alpha and beta must be 1"


def rows_fixed(seen: Seen) -> str | None:
    """XNNPACK: how many rows a product has is fixed when it is set up."""
    shape = seen.shape()
    return None if shape is not None and None not in shape else NOT_FIXED


NOT_FIXED = "a size is not fixed (--dim NAME=SIZE fixes it)"


def both_fp32(seen: Seen) -> str | None:
    """Core ML: a power of float32 by float32."""
    return None if seen.dtype(0) == seen.dtype(1) == FLOAT else "both inputs must be float32"
