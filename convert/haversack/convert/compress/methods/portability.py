"""What int8 computes on x86 CPUs whose u8 x s8 instruction saturates, and weights that rule it out.

Before VNNI the one instruction for bytes was PMADDUBSW ("Intel 64 and IA-32 Architectures Software Developer's Manual",
volume 2): it multiplies unsigned bytes by signed ones and adds the products of neighbours *in 16 bits, saturating*. Two
products can reach 2·255·127 = 64,770, twice what fits, so that the same file gives other results on another CPU. With
weights in [-64, 64] they reach 32,640 at most and nothing can saturate: the reduced range, 7 of 8 bits.

onnxruntime's kernels (MLAS, U8S8) take activations as u8, a zero point and all, so int8 + 128 of the hub form, pad with
the zero point, and go along the products of one output in the order of its window: rows, columns, channels. Depthwise
convolutions (one input channel a group) have a kernel of their own in 16-bit products, which are exact.

`saturated` runs the int8 hub graph as such a CPU would: nothing else differs there, so each layer's output is the exact
one plus what saturation took, and the layers behind it see that. This is emulation of the instruction in the order
described, not a measurement on such a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from haversack.convert.compress.calibrate import Progress
from haversack.convert.compress.methods.stepwise import Stepwise
from haversack.convert.compress.operators import constant
from haversack.runtimes.engines import Array

LIMIT = 64
"""The largest weight of the reduced range."""

INT16 = (-32768, 32767)


@dataclass(frozen=True)
class Saturation:
    """What a CPU whose products saturate computes of an int8 model.

    Attributes:
        sums: By node name, the share of the layer's output values with at least one pair that saturates.
        outputs: By graph output, batch by batch: exact, and with saturation.
        layers: How many layers run on the instruction.
    """

    sums: dict[str, float]
    outputs: dict[str, list[tuple[Array, Array]]]
    layers: int

    @property
    def happens(self) -> bool:
        """Whether anything saturated at all."""
        return any(self.sums.values())

    @property
    def signal_to_noise(self) -> float:
        """Of the outputs with saturation against the exact ones, in dB; the worst output counts; infinite if equal."""
        worst = np.inf
        for pairs in self.outputs.values():
            signal = sum(float(np.square(exact.astype(np.float64)).sum()) for exact, _ in pairs)
            noise = sum(float(np.square(exact.astype(np.float64) - other).sum()) for exact, other in pairs)
            if noise:
                worst = min(worst, 10 * np.log10(signal / noise) if signal else -np.inf)
        return float(worst)

    @property
    def agreement(self) -> float:
        """The share of samples whose largest output is the same one, of the worst output."""
        shares = []
        for pairs in self.outputs.values():
            flat = [(a.reshape(len(a), -1), b.reshape(len(b), -1)) for a, b in pairs if a.ndim]
            if flat:
                same = [(a.argmax(axis=1) == b.argmax(axis=1)).mean() for a, b in flat]
                shares.append(float(np.mean(same)))
        return min(shares, default=1.0)

    @property
    def notes(self) -> list[str]:
        """What the user should know."""
        if not self.happens:
            return [f"portable int8: none of {self.layers} layers saturates on x86 CPUs without VNNI"]
        worst = max(self.sums, key=lambda name: self.sums[name])
        return [
            f"x86 CPUs without VNNI saturate in {sum(1 for share in self.sums.values() if share)} of {self.layers} "
            f"layers (most in {worst}: {100 * self.sums[worst]:.2g} % of its sums); by emulation the outputs there are "
            f"within {self.signal_to_noise:.1f} dB of the exact ones and {100 * self.agreement:.1f} % of samples keep "
            "their class; the method reduced-range rules it out"
        ]


def saturated(model: ir.Model, batches: Sequence[Mapping[str, Array]], progress: Progress | None = None) -> Saturation:
    """Run an int8 hub graph exactly, and as a CPU whose products saturate.

    Args:
        model: In the QDQ form.
        batches: Of real inputs.
        progress: Told after each layer.

    Raises:
        DataError: There is not one batch.
    """
    exact, other = Stepwise(model, batches), Stepwise(model, batches)
    layers = [(node, found) for node in model.graph if (found := _layer(node)) is not None]
    sums: dict[str, float] = {}
    for count, (node, layer) in enumerate(layers):
        other.until(node, [node.inputs[0]])
        source = node.inputs[0]
        assert source is not None
        taken = [layer.lost(values) for values in other.values(source)]
        sums[str(node.name)] = float(np.mean([np.count_nonzero(each) / each.size for each in taken]))
        if any(each.any() for each in taken):
            waiting = iter(taken)
            other.replace(node.outputs[0], lambda array, waiting=waiting, layer=layer: layer.less(array, next(waiting)))  # type: ignore[misc]
        if progress is not None:
            progress((count + 1) / len(layers), f"emulating {node.name}")
    exact.rest()
    other.rest()
    outputs = {
        str(value.name): list(zip(exact.values(value), other.values(value), strict=True))
        for value in model.graph.outputs
        if value.dtype == ir.DataType.FLOAT
    }
    return Saturation(sums, outputs, len(layers))


def pair_sums(activations: Array, weights: Array) -> tuple[Array, Array]:
    """The sums of products, exact and as PMADDUBSW adds them.

    Args:
        activations: uint8 [rows, products of a sum].
        weights: int8 [sums of a row, products of a sum].

    Returns:
        int64 [rows, sums of a row], twice. An odd last product stands alone and cannot saturate.
    """
    wide = activations.astype(np.int64)
    return wide @ weights.astype(np.int64).T, wide @ weights.astype(np.int64).T - _lost(activations, weights)


def _lost(activations: Array, weights: Array) -> Array:
    """What saturation takes from each sum: exact minus saturated, int64 [rows, sums of a row].

    Only pairs whose weights have one sign and can reach beyond 16 bits are looked at.
    """
    rows, outputs = len(activations), len(weights)
    even = weights.shape[1] // 2 * 2
    first, second = weights[:, 0:even:2].astype(np.int64), weights[:, 1:even:2].astype(np.int64)
    reach = 255 * (np.maximum(first, 0) + np.maximum(second, 0)), 255 * (np.minimum(first, 0) + np.minimum(second, 0))
    lost = np.zeros((rows, outputs), np.int64)
    a = activations[:, 0:even:2].astype(np.int64)
    b = activations[:, 1:even:2].astype(np.int64)
    for output, pair in zip(*np.nonzero((reach[0] > INT16[1]) | (reach[1] < INT16[0])), strict=True):
        added = a[:, pair] * first[output, pair] + b[:, pair] * second[output, pair]
        lost[:, output] += added - np.clip(added, *INT16)
    return lost


@dataclass(frozen=True)
class _Layer:
    """A layer that runs on the instruction.

    Attributes:
        node: Conv, Gemm or MatMul.
        weights: int8 [groups, outputs of a group, products of a sum], in the kernels' order.
        scale: Input scale · weight scale, of each output channel.
        source: Scale and zero point (of int8) of the input.
    """

    node: ir.Node
    weights: Array
    scale: Array
    source: tuple[float, int]

    def lost(self, values: Array) -> Array:
        """What saturation takes from the sums of this input, in units of the accumulator, of the output's shape."""
        scale, zero = self.source
        integers = (np.rint(values / np.float32(scale)).astype(np.int64) + zero + 128).astype(np.uint8)
        if self.node.op_type != "Conv":
            flat = _lost(integers.reshape(-1, integers.shape[-1]), self.weights[0])
            return flat.reshape(*values.shape[:-1], -1)
        windows, places = _windows(self.node, integers, zero + 128, len(self.weights))
        parts = [_lost(window, weights) for window, weights in zip(windows, self.weights, strict=True)]
        joined = np.concatenate(parts, axis=1).reshape(len(values), *places, -1)
        return np.moveaxis(joined, -1, 1)

    def less(self, array: Array, lost: Array) -> Array:
        """An exact output without what saturation took."""
        axis = 1 if self.node.op_type == "Conv" else array.ndim - 1
        spread = np.broadcast_to(self.scale, array.shape[axis])
        laid = spread.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
        made: Array = (array - lost * laid).astype(np.float32)
        return made


def _windows(node: ir.Node, integers: Array, pad: int, groups: int) -> tuple[Array, tuple[int, ...]]:
    """What each sum of a convolution multiplies: uint8 [groups, positions, products], and the output's size."""
    weights = node.inputs[1]
    assert weights is not None
    assert weights.shape is not None
    kernel = [int(size) for size in weights.shape.numpy()[2:]]
    spatial = len(kernel)
    pads, strides, dilations = (
        list(node.attributes[name].as_ints()) if name in node.attributes else [default] * length
        for name, default, length in (("pads", 0, 2 * spatial), ("strides", 1, spatial), ("dilations", 1, spatial))
    )
    widths = [(0, 0), (0, 0), *zip(pads[:spatial], pads[spatial:], strict=True)]
    padded = np.pad(integers, widths, constant_values=pad)
    extent = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, extent, tuple(range(2, 2 + spatial)))
    at = (
        slice(None),
        slice(None),
        *(slice(None, None, s) for s in strides),
        *(slice(None, None, d) for d in dilations),
    )
    windows = windows[at]  # [batch, channels, *places, *kernel]
    places = windows.shape[2 : 2 + spatial]
    batch, channels = windows.shape[:2]
    split = windows.reshape(batch, groups, channels // groups, *windows.shape[2:])
    order = (1, 0, *range(3, 3 + 2 * spatial), 2)  # groups, batch, places, kernel, channels
    return split.transpose(order).reshape(groups, batch * int(np.prod(places)), -1), places


def _layer(node: ir.Node) -> _Layer | None:
    """The layer as kernels see it; None where it does not run on the instruction."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or node.domain not in ("", "ai.onnx"):
        return None
    makers = [None if value is None else value.producer() for value in node.inputs[:2]]
    if any(maker is None or maker.op_type != "DequantizeLinear" for maker in makers):
        return None
    source, held = (maker for maker in makers if maker is not None)
    scale, zero = constant(source.inputs[1]), constant(source.inputs[2])
    integers, steps = _int8(held.inputs[0]), constant(held.inputs[1])
    if scale is None or zero is None or zero.dtype != np.int8 or integers is None or steps is None:
        return None
    product = (scale * steps).astype(np.float64)
    of = (float(scale), int(zero))
    if node.op_type != "Conv":
        gemm = node.op_type == "Gemm"
        transposed = gemm and bool(node.attributes.get_int("transB", 0))
        plain = integers.ndim == 2 and not (gemm and bool(node.attributes.get_int("transA", 0)))
        return _Layer(node, (integers if transposed else integers.T)[None], product, of) if plain else None
    groups = node.attributes.get_int("group", 1)
    if integers.shape[1] == 1 and groups > 1:
        return None  # depthwise
    moved = np.moveaxis(integers, 1, -1)
    return _Layer(node, moved.reshape(groups, integers.shape[0] // groups, -1), product, of)


def _int8(value: ir.Value | None) -> Array | None:
    """Integers of weights, in int8 or narrower."""
    array = constant(value)
    if array is None or array.dtype.itemsize != 1:
        return None
    made: Array = array.astype(np.int8)
    return made
