"""A random graph around spatial operators, and every operator that may be appended to it; for the laws of layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Sketch:
    """A graph under construction. All numbers are small integers, so that sums are exact in any order."""

    draw: Callable[[Any], Any]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inexact: set[str] = field(default_factory=set)
    kinds: dict[str, str] = field(default_factory=dict)

    def integers(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def one_of(self, choices: list[Any]) -> Any:
        return self.draw(st.sampled_from(choices))

    def constant(self, array: Array) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def small(self, shape: tuple[int, ...]) -> str:
        seed = self.integers(0, 9)
        return self.constant(np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32))

    def ints(self, numbers: list[int]) -> str:
        return self.constant(np.array(numbers, np.int64))

    def input(self, shape: tuple[int, ...]) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = np.random.default_rng(len(self.inputs)).integers(-4, 5, shape).astype(np.float32)
        self.shapes[name] = shape
        return name

    def add(
        self, op: str, inputs: list[str], shapes: tuple[int, ...] | list[tuple[int, ...]], **attributes: Any
    ) -> str:
        many = shapes if isinstance(shapes, list) else [shapes]
        outputs = [f"v{len(self.nodes)}_{i}" for i in range(len(many))]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"n{len(self.nodes)}", **attributes))
        self.shapes.update(dict(zip(outputs, many, strict=True)))
        if any(name in self.inexact for name in inputs):
            self.inexact.update(outputs)
        return outputs[0]

    def clip(self, value: str) -> str:
        low, high = self.constant(np.float32(-8)), self.constant(np.float32(8))
        return self.add("Clip", [value, low, high], self.shapes[value])

    def model(self, outputs: list[str]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in self.inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, self.shapes[n]) for n in outputs],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def conv(s: Sketch, x: str) -> str | None:
    n, c, *spatial = s.shapes[x]
    out = s.one_of([1, 2, 4, 6])
    group = c if s.one_of([True, False]) else 1
    out = c if group == c else out
    kernel = s.one_of([1, 3])
    weights = s.small((out, c // group, *[kernel] * len(spatial)))
    pads = [kernel // 2] * 2 * len(spatial)
    y = s.add("Conv", [x, weights], (n, out, *spatial), kernel_shape=[kernel] * len(spatial), pads=pads, group=group)
    return s.clip(y)


def pool(s: Sketch, x: str) -> str | None:
    n, c, *spatial = s.shapes[x]
    if min(spatial) < 2:
        return None
    return s.add("MaxPool", [x], (n, c, *[d - 1 for d in spatial]), kernel_shape=[2] * len(spatial))


def global_pool(s: Sketch, x: str) -> str | None:
    n, c, *spatial = s.shapes[x]
    return s.add("GlobalMaxPool", [x], (n, c, *[1] * len(spatial)))


def resize(s: Sketch, x: str) -> str | None:
    n, c, *spatial = s.shapes[x]
    if len(spatial) != 2 or max(spatial) > 4:
        return None
    scales = s.constant(np.array([1, 1, 2, 2], np.float32))
    return s.add(
        "Resize",
        [x, "", scales],
        (n, c, *[2 * d for d in spatial]),
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )


def depth_to_space(s: Sketch, x: str) -> str | None:
    n, c, h, w = s.shapes[x] if len(s.shapes[x]) == 4 else (0, 1, 0, 0)
    if c % 4 or max(h, w) > 4:
        return None
    return s.add("DepthToSpace", [x], (n, c // 4, 2 * h, 2 * w), blocksize=2, mode=s.one_of(["DCR", "CRD"]))


def unary(s: Sketch, x: str) -> str | None:
    return s.add(s.one_of(["Relu", "Neg", "Abs", "Sign"]), [x], s.shapes[x])


def add_values(s: Sketch, x: str) -> str | None:
    """Add any value that broadcasts: the same shape, fewer axes, or size 1."""
    shape = s.shapes[x]

    def fits(other: tuple[int, ...]) -> bool:
        return len(other) <= len(shape) and all(a in (1, b) for a, b in zip(other[::-1], shape[::-1], strict=False))

    others = [name for name, other in s.shapes.items() if fits(other) and name not in s.kinds]
    smaller = [name for name in others if len(s.shapes[name]) < len(shape)]
    if not smaller and len(shape) > 1 and s.one_of([True, False]):
        drop = s.integers(1, len(shape) - 1)
        low = s.add("ReduceMax", [x, s.ints(list(range(drop)))], shape[drop:], keepdims=0)
        smaller = [low]
    pair = [x, s.one_of(smaller if smaller and s.one_of([True, True, False]) else others)]
    return s.clip(s.add("Add", pair if s.one_of([True, False]) else pair[::-1], shape))


def scale(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    drop = s.integers(0, len(shape))
    factor = tuple(d if s.one_of([True, False]) else 1 for d in shape[drop:])
    return s.clip(s.add("Mul", [x, s.small(factor)], shape))


def prelu(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    if len(shape) < 3:
        return None
    return s.clip(s.add("PRelu", [x, s.small((shape[1], *[1] * (len(shape) - 2)))], shape))


def where(s: Sketch, x: str) -> str | None:
    if x in s.inexact:
        return None
    positive = s.add("Greater", [x, s.constant(np.float32(0))], s.shapes[x])
    s.kinds[positive] = "bool"
    return s.add("Where", [positive, x, s.small(s.shapes[x])], s.shapes[x])


def concat(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    axis = s.integers(0, len(shape) - 1)

    def fits(other: tuple[int, ...]) -> bool:
        return len(other) == len(shape) and all(
            a == b or i == axis for i, (a, b) in enumerate(zip(other, shape, strict=True))
        )

    other = s.one_of([name for name, candidate in s.shapes.items() if fits(candidate) and name not in s.kinds])
    total = shape[axis] + s.shapes[other][axis]
    parts, extra = [x, other], s.one_of([0, 0, 1])
    if extra:
        parts.append(s.small((*shape[:axis], extra, *shape[axis + 1 :])))
    if total > 12:
        return None
    new = (*shape[:axis], total + extra, *shape[axis + 1 :])
    return s.add("Concat", parts, new, axis=axis - (len(shape) if s.one_of([True, False]) else 0))


def split(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    axes = [i for i, d in enumerate(shape) if d > 1]
    if not axes:
        return None
    axis = s.one_of(axes)
    cut = s.integers(1, shape[axis] - 1)
    parts = [cut, shape[axis] - cut]
    return s.add("Split", [x, s.ints(parts)], [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts], axis=axis)


def slice_(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    if s.one_of([True, False]):
        axis = s.integers(0, len(shape) - 1)
        return s.add("Slice", [x, s.ints([-1]), s.ints([-100]), s.ints([axis]), s.ints([-1])], shape)
    starts = [s.integers(0, d - 1) for d in shape]
    new = tuple(d - start for d, start in zip(shape, starts, strict=True))
    return s.add("Slice", [x, s.ints(starts), s.ints(list(shape))], new)


def pad(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    if max(shape) > 6:
        return None
    begins, ends = [s.integers(0, 1) for _ in shape], [s.integers(0, 1) for _ in shape]
    if s.one_of([True, False]):
        axis = s.integers(0, len(shape) - 1)
        new = tuple(d + (begins[0] + ends[0]) * (i == axis) for i, d in enumerate(shape))
        return s.add("Pad", [x, s.ints([begins[0], ends[0]]), "", s.ints([axis])], new)
    new = tuple(d + b + e for d, b, e in zip(shape, begins, ends, strict=True))
    return s.add("Pad", [x, s.ints(begins + ends)], new)


def reduce(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    axes = [i for i in range(len(shape)) if s.one_of([True, False])] or [len(shape) - 1]
    keep = s.one_of([0, 1])
    new = tuple(1 if i in axes else d for i, d in enumerate(shape) if keep or i not in axes)
    given = [axis - (len(shape) if s.one_of([True, False]) else 0) for axis in axes]
    y = s.add(s.one_of(["ReduceMax", "ReduceSum", "ReduceMin"]), [x, s.ints(given)], new, keepdims=keep)
    return s.clip(y)


def argmax(s: Sketch, x: str) -> str | None:
    if x in s.inexact:
        return None
    shape = s.shapes[x]
    axis, keep = s.integers(0, len(shape) - 1), s.one_of([0, 1])
    new = tuple(1 if i == axis else d for i, d in enumerate(shape) if keep or i != axis)
    y = s.add("ArgMax", [x], new, axis=axis, keepdims=keep)
    s.kinds[y] = "int"
    return s.clip(s.add("Cast", [y], new, to=TensorProto.FLOAT))


def top(s: Sketch, x: str) -> str | None:
    if x in s.inexact:
        return None
    shape = s.shapes[x]
    axis = s.integers(0, len(shape) - 1)
    new = (*shape[:axis], 1, *shape[axis + 1 :])
    y = s.add("TopK", [x, s.ints([1])], [new, new], axis=axis)
    s.kinds[y[:-1] + "1"] = "int"
    return y


def cumulative(s: Sketch, x: str) -> str | None:
    axis = s.constant(np.array(s.integers(0, len(s.shapes[x]) - 1), np.int64))
    return s.clip(s.add("CumSum", [x, axis], s.shapes[x])) if x not in s.inexact else None


def softmax(s: Sketch, x: str) -> str | None:
    y = s.add(s.one_of(["Softmax", "LogSoftmax"]), [x], s.shapes[x], axis=s.integers(0, len(s.shapes[x]) - 1))
    s.inexact.add(y)
    return y


def normalize(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    axis = s.integers(1, len(shape) - 1) if len(shape) > 1 else 0
    # The large epsilon keeps a constant row from turning rounding errors into numbers of size 1.
    y = s.add("LayerNormalization", [x, s.small(shape[axis:]), s.small(shape[axis:])], shape, axis=axis, epsilon=1.0)
    s.inexact.add(y)
    return y


def transpose(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    rank = len(shape)
    known = [[0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]] if rank > 2 else [[*range(rank)][::-1]]
    perm = s.draw(st.one_of(st.sampled_from(known), st.permutations(range(rank))))
    return s.add("Transpose", [x], tuple(shape[axis] for axis in perm), perm=list(perm))


def reshape(s: Sketch, x: str) -> str | None:
    """Merge two neighbours, split an axis, or anything of the same size."""
    shape = list(s.shapes[x])
    way = s.one_of(["merge", "split", "merge and split", "one"])
    if "merge" in way and len(shape) > 1:
        axis = s.integers(0, len(shape) - 2)
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    if "split" in way:
        axis = s.integers(0, len(shape) - 1)
        factor = s.one_of([d for d in range(1, shape[axis] + 1) if shape[axis] % d == 0])
        shape[axis : axis + 1] = [factor, shape[axis] // factor]
    if way == "one":
        shape.insert(s.integers(0, len(shape)), 1)
    return s.add("Reshape", [x, s.ints(shape)], tuple(shape)) if len(shape) <= 5 else None


def flatten(s: Sketch, x: str) -> str | None:
    shape, axis = s.shapes[x], s.integers(0, len(s.shapes[x]))
    new = (int(np.prod(shape[:axis])), int(np.prod(shape[axis:])))
    return s.add("Flatten", [x], new, axis=axis)


def squeeze(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    ones = [i for i, d in enumerate(shape) if d == 1]
    if ones and s.one_of([True, False]):
        axis = s.one_of(ones)
        return s.add("Squeeze", [x, s.ints([axis])], (*shape[:axis], *shape[axis + 1 :]))
    axis = s.integers(0, len(shape))
    return s.add("Unsqueeze", [x, s.ints([axis])], (*shape[:axis], 1, *shape[axis:])) if len(shape) < 5 else None


def gather(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    axis = s.integers(0, len(shape) - 1)
    indices = s.one_of([(), (2,), (2, 2)])
    if len(shape) - 1 + len(indices) > 5:
        return None
    chosen = s.constant(np.arange(int(np.prod(indices)), dtype=np.int64).reshape(indices) % shape[axis])
    return s.add("Gather", [x, chosen], (*shape[:axis], *indices, *shape[axis + 1 :]), axis=axis)


def tile(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    repeats = [s.one_of([1, 1, 2]) for _ in shape]
    new = tuple(d * r for d, r in zip(shape, repeats, strict=True))
    return s.add("Tile", [x, s.ints(repeats)], new) if np.prod(new) < 3000 else None


def expand(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    new = tuple(2 if d == 1 else d for d in shape)
    if len(new) < 5 and s.one_of([True, False]):
        new = (2, *new)
    return s.add("Expand", [x, s.ints(list(new))], new) if np.prod(new) < 3000 else None


def quantize(s: Sketch, x: str) -> str | None:
    if x in s.inexact:
        return None
    shape = s.shapes[x]
    axis = s.integers(0, len(shape) - 1)
    per_axis = s.one_of([True, False])
    sizes = (shape[axis],) if per_axis else ()
    steps = s.constant(np.resize(np.array([1, 2, 4], np.float32), sizes))
    zeros = s.constant(np.zeros(sizes, np.int8))
    attributes = {"axis": axis} if per_axis else {}
    q = s.add("QuantizeLinear", [x, steps, zeros], shape, **attributes)
    s.kinds[q] = "int"
    return s.add("DequantizeLinear", [q, steps, zeros], shape, **attributes)


def matmul(s: Sketch, x: str) -> str | None:
    shape = s.shapes[x]
    return s.clip(s.add("MatMul", [x, s.small((shape[-1], 3))], (*shape[:-1], 3))) if len(shape) > 1 else None


def shuffle(s: Sketch, x: str) -> str | None:
    if len(s.shapes[x]) != 4 or s.shapes[x][1] % 2:
        return None
    n, c, h, w = s.shapes[x]
    y = s.add("Reshape", [x, s.ints([n, 2, c // 2, h, w])], (n, 2, c // 2, h, w))
    y = s.add("Transpose", [y], (n, c // 2, 2, h, w), perm=[0, 2, 1, 3, 4])
    return s.add("Reshape", [y, s.ints([n, c, h, w])], (n, c, h, w))


def excite(s: Sketch, x: str) -> str | None:
    if len(s.shapes[x]) != 4:
        return None
    n, c, *_ = s.shapes[x]
    y = s.add("GlobalMaxPool", [x], (n, c, 1, 1))
    y = s.add("Flatten", [y], (n, c))
    y = s.clip(s.add("Gemm", [y, s.small((c, c))], (n, c), transB=1))
    y = s.add("Reshape", [y, s.ints([n, c, 1, 1])], (n, c, 1, 1))
    return s.clip(s.add("Mul", [x, y], s.shapes[x]))


def attention(s: Sketch, x: str) -> str | None:
    if len(s.shapes[x]) != 4 or s.shapes[x][1] % 2:
        return None
    n, c, h, w = s.shapes[x]
    y = s.add("Reshape", [x, s.ints([n, c, h * w])], (n, c, h * w))
    y = s.add("Transpose", [y], (n, h * w, c), perm=[0, 2, 1])
    y = s.clip(s.add("MatMul", [y, s.small((c, c))], (n, h * w, c)))
    y = s.add("Reshape", [y, s.ints([n, h * w, 2, c // 2])], (n, h * w, 2, c // 2))
    y = s.add("Transpose", [y], (n, 2, h * w, c // 2), perm=[0, 2, 1, 3])
    y = s.add("Transpose", [y], (n, h * w, 2, c // 2), perm=[0, 2, 1, 3])
    y = s.add("Reshape", [y, s.ints([n, h * w, c])], (n, h * w, c))
    y = s.add("Transpose", [y], (n, c, h * w), perm=[0, 2, 1])
    return s.add("Reshape", [y, s.ints([n, c, h, w])], (n, c, h, w))


SPATIAL = [conv, conv, conv, pool, global_pool, resize, depth_to_space, prelu, shuffle, excite, attention]
FREE = [
    unary, add_values, scale, where, concat, split, slice_, pad, reduce, argmax, top, cumulative, softmax, normalize,
    transpose, transpose, reshape, reshape, flatten, squeeze, gather, tile, expand, quantize, matmul,
]  # fmt: skip
AFTER_ROUNDING = [unary, transpose, reshape, flatten, squeeze, gather, slice_, pad, concat]
