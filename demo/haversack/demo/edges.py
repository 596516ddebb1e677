"""Between the model's own inputs and outputs and what a variant takes and gives.

A variant may hold its inputs and outputs in another axis order (`--io-layout channels-last`), as int8
(`--io-dtype int8`) or as int32 for int64; the bundle's manifest says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from haversack.runtimes.engines import Array
from haversack.runtimes.manifest import Manifest, Tensor, Variant


def enter(feeds: Mapping[str, Array], manifest: Manifest, variant: Variant) -> dict[str, Array]:
    """The model's inputs as a variant takes them, by the model's names; what does not fit is left to the runtime."""
    entered = {}
    for tensor, own in zip(manifest.inputs, variant.inputs, strict=True):
        if tensor.name not in feeds:
            continue
        value = feeds[tensor.name]
        if _moved(tensor, own) and value.ndim == 4:
            value = value.transpose(0, 2, 3, 1)
        if own.scale is not None and np.dtype(own.dtype).kind in "iu" and value.dtype.kind == "f":
            info = np.iinfo(own.dtype)
            value = np.clip(np.rint(value / np.float32(own.scale)) + (own.zero_point or 0), info.min, info.max)
            value = value.astype(own.dtype)
        elif value.dtype.kind in "iu" and np.dtype(own.dtype).kind in "iu":
            value = _narrowed(value, own.dtype)
        entered[tensor.name] = np.ascontiguousarray(value)
    return entered | {name: value for name, value in feeds.items() if name not in entered}


def same_inputs(manifest: Manifest, variant: Variant) -> bool:
    """Whether a variant takes its inputs as the model does, integers perhaps in another width."""
    return all(
        own.scale is None
        and np.dtype(own.dtype).kind == np.dtype(tensor.dtype).kind
        and not _moved(tensor, own)
        and len(tensor.shape) == len(own.shape)
        for tensor, own in zip(manifest.inputs, variant.inputs, strict=True)
    )


def leave(outputs: Mapping[str, Array], manifest: Manifest, variant: Variant) -> dict[str, Array]:
    """A variant's outputs as the model gives them, by the model's names."""
    left = {}
    for tensor, own in zip(manifest.outputs, variant.outputs, strict=True):
        value = outputs[tensor.name]
        if own.scale is not None and tensor.dtype.startswith("float"):
            value = (value.astype(np.float32) - np.float32(own.zero_point or 0)) * np.float32(own.scale)
        if _moved(tensor, own):
            value = value.transpose(0, 3, 1, 2)
        left[tensor.name] = np.ascontiguousarray(value)
    return left


def _moved(tensor: Tensor, own: Tensor) -> bool:
    """Whether the variant holds channels last what the model holds channels first."""
    if len(tensor.shape) != 4 or len(own.shape) != 4:
        return False
    if tensor.layout and own.layout:
        return (tensor.layout, own.layout) == ("NCHW", "NHWC")
    n, c, h, w = tensor.shape
    return not _fits(tensor.shape, own.shape) and _fits((n, h, w, c), own.shape)


def _fits(shape: tuple[int | str, ...], own: tuple[int | str, ...]) -> bool:
    """Whether two shapes can be the same, where a symbolic size is any."""
    return all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(shape, own, strict=True))


def _narrowed(value: Array, dtype: str) -> Array:
    """Integers of another width, where every value survives; else as they are, and the runtime refuses them."""
    narrowed = value.astype(dtype)
    return narrowed if np.array_equal(narrowed, value) else value
