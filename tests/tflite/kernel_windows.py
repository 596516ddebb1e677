"""What the kernels of fixed rank compute: convolutions, products, pools, resizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from kernel_case import SHAPE, Array, Case, Family, Shape, i32, scalar, shape_of

from haversack.convert.targets.tflite.schema import SAME, VALID


def conv(x: Array, w: Array, stride: int = 1, dilation: int = 1, groups: int = 1, pads: Sequence[Shape] = ()) -> Array:
    """Channels-last convolution of 1 to 3 spatial axes; `w` is (out, *window, in / groups)."""
    dims = x.ndim - 2
    x = np.pad(x, [(0, 0), *(pads or [(0, 0)] * dims), (0, 0)])
    window = w.shape[1:-1]
    sizes = [(x.shape[1 + n] - dilation * (k - 1) - 1) // stride + 1 for n, k in enumerate(window)]
    result = np.zeros((x.shape[0], *sizes, w.shape[0]), np.result_type(x, w))
    per_in, per_out = x.shape[-1] // groups, w.shape[0] // groups
    for place in np.ndindex(*window):
        rows = [slice(p * dilation, p * dilation + stride * (n - 1) + 1, stride) for p, n in zip(place, sizes)]  # noqa: B905
        taken = x[(slice(None), *rows, slice(None))]
        for g in range(groups):
            inner, outer = slice(g * per_in, (g + 1) * per_in), slice(g * per_out, (g + 1) * per_out)
            result[..., outer] += taken[..., inner] @ w[(outer, *place)].T
    return result


def conv_2d(rank: int) -> list[Case]:  # noqa: ARG001
    stride = {"stride_h": 1, "stride_w": 1, "padding": VALID}
    rows = [
        ("1x1", (5, 1, 1, 3), {}, stride),
        ("stride 2", (5, 2, 2, 3), {"stride": 2}, {"stride_h": 2, "stride_w": 2, "padding": VALID}),
        ("same", (5, 3, 3, 3), {"pads": [(1, 1), (1, 1)]}, {**stride, "padding": SAME}),
        ("dilated", (5, 2, 2, 3), {"dilation": 2}, {**stride, "dilation_h_factor": 2, "dilation_w_factor": 2}),
        ("grouped", (6, 2, 2, 1), {"groups": 3}, stride),
    ]
    return [
        Case([SHAPE, w, w[:1]], lambda x, w, c, m=m: conv(x, w, **m) + c, o, constants=frozenset({1, 2}), form=form)
        for form, w, m, o in rows
    ]


def depthwise(rank: int) -> list[Case]:  # noqa: ARG001
    found = []
    for form, multiplier, stride, dilation in (("plain", 1, 1, 1), ("multiplier", 2, 2, 1), ("dilated", 1, 1, 2)):
        options = {
            "stride_h": stride, "stride_w": stride, "padding": VALID, "depth_multiplier": multiplier,
            "dilation_h_factor": dilation, "dilation_w_factor": dilation,
        }  # fmt: skip

        def reference(x: Array, w: Array, c: Array, s: int = stride, d: int = dilation) -> Array:
            return conv(x, np.moveaxis(w, -1, 0)[:, 0, ..., None], s, d, 3) + c

        shapes = [SHAPE, (1, 2, 2, 3 * multiplier), (3 * multiplier,)]
        found.append(Case(shapes, reference, options, constants=frozenset({1, 2}), form=form))
    return found


def transpose_conv(rank: int) -> list[Case]:  # noqa: ARG001
    def reference(w: Array, x: Array, *c: Array) -> Array:
        """Every input scatters a window of stride 2."""
        result = np.zeros((1, 8, 12, 5), x.dtype)
        for place in np.ndindex(2, 2):
            result[:, place[0] :: 2, place[1] :: 2] += x @ w[:, place[0], place[1]].T
        return result + (c[0] if c else 0)

    options = {"stride_h": 2, "stride_w": 2, "padding": VALID}
    shapes = [(5, 2, 2, 3), SHAPE, (5,)]
    control = {0: i32(1, 8, 12, 5)}
    return [
        Case(shapes, reference, options, control, frozenset({0, 2}), form="bias"),
        Case(shapes[:2], reference, options, control, frozenset({0}), form="no bias"),
    ]


def conv_3d(rank: int) -> list[Case]:  # noqa: ARG001
    options = {"stride_d": 1, "stride_h": 1, "stride_w": 1, "padding": VALID}
    reference = lambda x, w, c: conv(x, np.moveaxis(w, -1, 0)) + c  # noqa: E731
    return [Case([(1, 2, 4, 6, 3), (2, 2, 2, 3, 5), (5,)], reference, options, constants=frozenset({1, 2}))]


def fully_connected(rank: int) -> list[Case]:
    full = (*shape_of(rank)[1:], 6)
    options = {"keep_num_dims": True} if rank > 2 else {}
    constant = frozenset({1, 2})
    return [
        Case([full, (5, 6), (5,)], lambda x, w, c: x @ w.T + c, options, constants=constant, form="bias"),
        Case([full, (5, 6)], lambda x, w: x @ w.T, options, constants=constant, form="no bias"),
    ]


def matmul(rank: int) -> list[Case]:
    batch = shape_of(rank)[2:]
    thin = tuple(1 if n % 2 else size for n, size in enumerate(batch))
    rows = [
        ("same", [(*batch, 4, 6), (*batch, 6, 5)], np.matmul, {}),
        ("broadcast", [(*thin, 4, 6), (*batch, 6, 5)], np.matmul, {}),
        ("adj_y", [(*batch, 4, 6), (*thin, 5, 6)], lambda x, y: x @ y.swapaxes(-1, -2), {"adj_y": True}),
        ("adj_x", [(*batch, 6, 4), (*batch, 6, 5)], lambda x, y: x.swapaxes(-1, -2) @ y, {"adj_x": True}),
    ]
    fed = [Case(shapes, function, options, form=form) for form, shapes, function, options in rows]
    return [*fed, Case([(*batch, 4, 6), (6, 5)], np.matmul, constants=frozenset({1}), form="constant")]


def pool(function: Callable[..., Array]) -> Family:
    options = {"filter_height": 2, "filter_width": 2, "stride_h": 2, "stride_w": 2, "padding": VALID}
    return lambda _: [Case([SHAPE], lambda x: function(x.reshape(1, 2, 2, 3, 2, 3), axis=(2, 4)), options)]


def blocks(code: str) -> Family:
    def spread(x: Array) -> Array:
        return x.reshape(1, 2, 3, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(1, 4, 6, 2)

    def gathered(x: Array) -> Array:
        return x.reshape(1, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 3, 12)

    given = [(1, 2, 3, 8)] if code == "DEPTH_TO_SPACE" else [SHAPE]
    return lambda _: [Case(given, spread if code == "DEPTH_TO_SPACE" else gathered, {"block_size": 2}, wide=(0,))]


def bilinear(rank: int) -> list[Case]:  # noqa: ARG001
    left, right = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5], [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5]
    plain = lambda x: np.asarray(x[:, :, left] * 0.5 + x[:, :, right] * 0.5)  # noqa: E731
    near = [max(0, (n - 1) // 2) for n in range(12)]
    far = [min(5, (n + 1) // 2) for n in range(12)]
    weight = np.array([0.25 if n % 2 else 0.75 for n in range(12)], np.float32)[:, None]
    half = lambda x: np.asarray(x[:, :, near] * (1 - weight) + x[:, :, far] * weight)  # noqa: E731
    return [
        Case([SHAPE], plain, control={1: i32(4, 12)}, form="plain"),
        Case([SHAPE], half, {"half_pixel_centers": True}, {1: i32(4, 12)}, form="half pixel"),
        Case(
            [(1, 4, 2, 3)],
            lambda x: np.stack([(x[:, :, 0] * (5 - n) + x[:, :, 1] * n) / x.dtype.type(5) for n in range(6)], 2),
            {"align_corners": True},
            {1: i32(4, 6)},
            form="align corners",
        ),
    ]


def nearest(rank: int) -> list[Case]:  # noqa: ARG001
    double = lambda x: x.repeat(2, 1).repeat(2, 2)  # noqa: E731
    return [
        Case([SHAPE], double, control={1: i32(8, 12)}, form="plain"),
        Case([SHAPE], double, {"half_pixel_centers": True}, {1: i32(8, 12)}, form="half pixel"),
        Case([SHAPE], lambda x: x[:, :, [0, 5]], {"align_corners": True}, {1: i32(4, 2)}, form="align corners"),
    ]


def suppression(rank: int) -> list[Case]:  # noqa: ARG001
    control = {
        0: np.array([[n, n, n + 0.5, n + 0.5] for n in range(4)], np.float32),  # apart from each other
        2: scalar(3),
        3: np.array(0.5, np.float32),
        4: np.array(-9, np.float32),
    }
    reference = lambda s: (np.argsort(-s, kind="stable")[:3].astype(np.int32), scalar(3))  # noqa: E731
    return [Case([(4,)], reference, control=control)]


def norm(x: Array) -> Array:
    return np.asarray(x / np.sqrt((x**2).sum(-1, keepdims=True)))


LRN = {"radius": 3, "bias": 1.0, "alpha": 0.5, "beta": 0.5}
