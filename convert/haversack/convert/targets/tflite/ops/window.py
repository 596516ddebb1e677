"""The arithmetic of sliding windows: explicit pads, and when TFLite's SAME scheme gives the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A sliding window, one entry a spatial axis.

    Attributes:
        kernel: Taps.
        strides: Distance of neighbouring windows.
        dilations: Distance of neighbouring taps.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @staticmethod
    def of(kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Window:
        """With ONNX's defaults: strides and dilations are 1 where they are left out."""
        ones = (1,) * len(kernel)
        return Window(tuple(kernel), tuple(strides) or ones, tuple(dilations) or ones)

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements from the first tap to the last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def strided(self) -> bool:
        """Whether windows skip elements, so that TFLite's SAME pads one size otherwise than the next."""
        return max(self.strides) > 1

    def prepend_axis(self) -> Window:
        """The same window with an axis of size 1 before the others."""
        return Window((1, *self.kernel), (1, *self.strides), (1, *self.dilations))


def same_padding(window: Window, size: Sequence[int]) -> list[tuple[int, int]]:
    """The pads of TFLite's SAME scheme: `ceil(size / stride)` windows, the odd element at the end."""
    edges = []
    for n, extent, stride in zip(size, window.extents, window.strides, strict=True):
        total = max((-(-n // stride) - 1) * stride + extent - n, 0)
        edges.append((total // 2, total - total // 2))
    return edges


def resolve_pads(window: Window, size: Sequence[int], pads: Sequence[int], auto_pad: str) -> list[tuple[int, int]]:
    """Explicit (before, after) pads from ONNX's `pads` and `auto_pad`."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        edges = same_padding(window, size)
        return edges if auto_pad == "SAME_UPPER" else [(after, before) for before, after in edges]
    rank = len(window.kernel)
    if auto_pad == "VALID" or not pads:
        return [(0, 0)] * rank
    return list(zip(pads[:rank], pads[rank:], strict=True))


def ceiled_pads(
    window: Window, size: Sequence[int], edges: Sequence[tuple[int, int]], out: Sequence[int]
) -> list[tuple[int, int]] | None:
    """Pads enlarged at the end so that `out` windows fit, as `ceil_mode` asks; None where one would start past the end.

    Opset 22 leaves such a window out, earlier ones do not say what it holds.
    """
    if any((o - 1) * s >= n + e[0] for n, o, s, e in zip(size, out, window.strides, edges, strict=True)):
        return None
    return [
        (before, max(after, (o - 1) * stride + extent - n - before))
        for n, o, extent, stride, (before, after) in zip(size, out, window.extents, window.strides, edges, strict=True)
    ]
