"""Nodes with spatial axes for random graphs: convolutions, pools, resizes, normalizations of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from graph_strategies import Sketch, Value

FLOATS = ("float32", "float32", "float32", "float16")


def image(g: Sketch, low: int = 3, high: int = 5, dtypes: tuple[str, ...] = FLOATS, exact: bool = False) -> Value:
    """A value with a batch, channels and one to three spatial axes."""

    def fits(value: Value) -> bool:
        return value.dtype in dtypes and low <= value.rank <= high and (value.exact or not exact)

    def make() -> Value:
        spatial = g.integer(low, high) - 2
        side = (3, 9) if spatial == 1 else (2, 7) if spatial == 2 else (2, 4)
        shape = (g.integer(1, 2), g.one_of([1, 2, 3, 4, 6]), *g.integers(*side, spatial))
        return g.leaf(g.one_of(dtypes), shape)

    return g.pick(fits, make)


def _window(g: Sketch, x: Value, pool: bool, dilated: bool = True) -> tuple[list[int], dict[str, Any]]:
    """A kernel's sizes, within the input's, and attributes that go with them.

    Of a dilated pool with SAME pads onnxruntime leaves the dilation out of the pads, against the specification.
    """
    spatial = x.rank - 2
    kernel = [g.integer(1, min(3, n)) for n in x.shape[2:]]
    given: dict[str, Any] = {}
    if g.flag():
        given["strides"] = g.integers(1, 3, spatial)
    if dilated and g.flag():
        given["dilations"] = [
            g.integer(1, 2) if 2 * k - 1 <= n else 1 for k, n in zip(kernel, x.shape[2:], strict=True)
        ]
    same = [] if pool and "dilations" in given else ["SAME_UPPER", "SAME_LOWER"]
    pads = g.one_of(["NOTSET", *same, "VALID", "explicit"])
    if pads == "explicit":
        given["pads"] = [g.integer(0, k - 1) if pool else g.integer(0, 2) for k in kernel * 2]
    elif pads != "NOTSET":
        given["auto_pad"] = pads
    return kernel, given


def _weights(g: Sketch, x: Value, shape: tuple[int, ...]) -> Value:
    """Weights small enough that a sum of products stays small; mostly a constant, as in real models."""
    return g.leaf(x.dtype, shape, (-1, 1), constant=g.integer(0, 4) > 0)


def convolution(g: Sketch) -> None:
    """Conv in groups, dilated, with any pads."""
    x = image(g)
    kernel, given = _window(g, x, pool=False)
    group = g.one_of([n for n in (1, 2, 3, x.shape[1]) if x.shape[1] % n == 0])
    filters = group * g.integer(1, 3)
    weights = _weights(g, x, (filters, x.shape[1] // group, *kernel))
    bias = [g.leaf(x.dtype, (filters,))] if g.flag() else []
    g.node("Conv", x, weights, *bias, group=group, **given)


def transposed_convolution(g: Sketch) -> None:
    """ConvTranspose with output_padding or output_shape."""
    x = image(g, high=4, dtypes=("float32",))
    kernel, given = _window(g, x, pool=False)
    group = g.one_of([n for n in (1, 2, x.shape[1]) if x.shape[1] % n == 0])
    filters = g.integer(1, 3)
    strides = given.get("strides", [1] * len(kernel))
    if "auto_pad" not in given and g.flag():
        given["output_padding"] = [g.integer(0, max(s - 1, 0)) for s in strides]
    elif "auto_pad" not in given and g.integer(0, 3) == 0:
        given.pop("pads", None)
        given["output_shape"] = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    bias = [g.leaf(x.dtype, (group * filters,))] if g.flag() else []
    g.node("ConvTranspose", x, _weights(g, x, (x.shape[1], filters, *kernel)), *bias, group=group, **given)


def _skips(given: dict[str, Any], kernel: list[int]) -> bool:
    """Whether windows leave elements out between them."""
    return any(s > k for s, k in zip(given.get("strides", kernel), kernel, strict=True))


def pool(g: Sketch) -> None:
    """MaxPool, AveragePool and LpPool, with ceil_mode where onnxruntime and the specification agree on it."""
    op = g.one_of(["MaxPool", "AveragePool", "LpPool"])
    x = image(g, dtypes=("float32",))
    dilated = {"MaxPool": 10, "AveragePool": 19, "LpPool": 18}[op] <= g.opset
    kernel, given = _window(g, x, pool=True, dilated=dilated)
    if op == "AveragePool" and g.flag():
        given["count_include_pad"] = 1
    if op == "LpPool":
        given["p"] = g.integer(1, 3)
    if given.get("auto_pad", "").startswith("SAME") and _skips(given, kernel):
        given["strides"] = [1] * len(kernel)  # onnxruntime starts beyond 0 there, or refuses
    ceil = {"MaxPool": 10, "AveragePool": 19, "LpPool": 99}[op] <= g.opset and "auto_pad" not in given
    if ceil and g.flag():
        given["ceil_mode"] = 1
    g.node(op, x, **{**given, "kernel_shape": kernel})


def global_pool(g: Sketch) -> None:
    """A pool over all of the plane."""
    g.node(g.one_of(["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"]), image(g, dtypes=("float32",)))


def channels(g: Sketch) -> None:
    """Normalizations and statistics by channel."""
    op = g.one_of(["BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"])
    x = image(g, low=4 if op == "LRN" else 3, high=4 if op == "LRN" else 5, dtypes=("float32",))
    count = x.shape[1]
    if op == "LRN":
        g.node(op, x, size=g.one_of([1, 3, 5]), alpha=g.one_of([1e-4, 0.5]), beta=g.one_of([0.75, 0.5]), bias=1.5)
        return
    scale, bias = (g.leaf("float32", (count,), constant=True) for _ in range(2))
    if op == "BatchNormalization":
        rest = [g.leaf("float32", (count,), constant=True), g.leaf("float32", (count,), (0.5, 3), constant=True)]
        g.node(op, x, scale, bias, *rest, epsilon=1e-3)
    elif op == "InstanceNormalization":
        g.node(op, x, scale, bias, epsilon=1e-2)
    else:
        g.node(op, x, scale, bias, epsilon=1e-2, num_groups=g.one_of([n for n in (1, 2, count) if count % n == 0]))


def blocks(g: Sketch) -> None:
    """DepthToSpace and SpaceToDepth."""
    size = g.integer(1, 2)
    if g.flag():
        x = g.leaf("float32", (1, size * size * g.integer(1, 2), *g.integers(1, 4, 2)))
        mode = {"mode": g.one_of(["DCR", "CRD"])} if g.opset >= 11 else {}
        g.node("DepthToSpace", x, blocksize=size, **mode)
    else:
        x = g.leaf("float32", (1, g.integer(1, 3), *(size * n for n in g.integers(1, 3, 2))))
        g.node("SpaceToDepth", x, blocksize=size)


def resize(g: Sketch) -> None:
    """Resize in every mode whose result onnxruntime and the specification agree on; Upsample before opset 10.

    With scales, sizes are whole: of a fractional size the two understand different coordinates.
    """
    x = image(g, high=4, dtypes=("float32",), exact=True)
    spatial = x.rank - 2
    steps = [1.0, 2.0, 3.0, 0.5] if g.opset > 10 else [1.0, 2.0, 3.0]
    factors = [g.one_of(steps) for _ in range(spatial)]
    factors = [f if n * f == int(n * f) and n * f >= 1 else 1.0 for n, f in zip(x.shape[2:], factors, strict=True)]
    scales = g.hold(np.array([1, 1, *factors], np.float32))
    if g.opset < 9:
        g.node("Upsample", x, mode="nearest", scales=[1.0, 1.0, *(max(f, 1.0) for f in factors)])
        return
    if g.opset < 11:
        g.node("Upsample" if g.opset < 10 else "Resize", x, scales, mode="nearest")
        return
    mode = g.one_of(["nearest", "linear", "cubic"])
    if mode == "cubic" and spatial != 2:
        mode = "linear"
    given: dict[str, Any] = {"mode": mode}
    kinds = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    given["coordinate_transformation_mode"] = g.one_of(kinds)
    if mode == "nearest":
        given["nearest_mode"] = g.one_of(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        given |= {"cubic_coeff_a": g.one_of([-0.75, -0.5]), "exclude_outside": int(g.flag())}
    if g.opset >= 18 and mode != "nearest" and g.flag():
        given["antialias"] = 1
    empty = g.hold(np.zeros(0, np.float32))
    if g.flag():
        g.node("Resize", x, empty, scales, domain_exact=mode == "nearest", **given)
        return
    sizes = g.ints([*x.shape[:2], *(g.integer(1, 2 * n) for n in x.shape[2:])])
    g.node("Resize", x, empty, empty if g.opset < 13 else None, sizes, domain_exact=mode == "nearest", **given)


def sample(g: Sketch) -> None:
    """GridSample, away from coordinates where rounding decides."""
    x = image(g, 4, 4, ("float32",))
    grid = g.leaf("float32", (x.shape[0], *g.integers(1, 3, 2), 2), (-1, 1))
    modes = ["linear", "cubic"] if g.opset >= 20 else ["bilinear", "bicubic"]
    padding = g.one_of(["zeros", "border"])
    g.node("GridSample", x, grid, mode=g.one_of(modes), padding_mode=padding, align_corners=int(g.flag()))


SPATIAL_FORMS = (
    convolution, convolution, transposed_convolution, pool, pool, global_pool, channels, channels, blocks, resize,
    resize, sample,
)  # fmt: skip
