"""Convolution and transposed convolution in one, two and three spatial dimensions.

MIL pads by `[begin0, end0, begin1, end1, …]`, ONNX by `[begin0, begin1, …, end0, end1, …]`; weights have the same
layout on both sides: `[out, in/groups, *kernel]`, transposed `[in, out/groups, *kernel]`.
"""

from __future__ import annotations

from collections.abc import Sequence

from haversack.convert.targets.coreml.builder import Builder, Value, Var
from haversack.convert.targets.coreml.ops import lowers


def interleaved(pads: Sequence[int]) -> list[int]:
    """ONNX's order of pads, all beginnings first, to MIL's, axis by axis."""
    half = len(pads) // 2
    return [int(pad) for pair in zip(pads[:half], pads[half:], strict=True) for pad in pair]


@lowers("Conv")
def conv(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    *,
    kernel_shape: Sequence[int] = (),  # noqa: ARG001  (the weights say it)
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Var:
    """Cross-correlation with explicit pads."""
    spatial = _spatial(b, x, auto_pad)
    if weight.array is None and any(step != 1 for step in dilations):
        b.refuse("Core ML dilates constant weights only, and they are computed at run time", "make them an initializer")
    known = bias is None or bias.array is not None
    result = b.op(
        "conv",
        x=x,
        weight=weight,
        bias=bias if known else None,
        strides=list(strides or [1] * spatial),
        pad_type="custom",
        pad=interleaved(pads or [0] * 2 * spatial),
        dilations=list(dilations or [1] * spatial),
        groups=group,
    )
    return result if known or bias is None else _biased(b, result, bias)


def _biased(b: Builder, x: Var, bias: Value) -> Var:
    """A bias that MIL's op does not take: computed at run time, or of more than it computes."""
    return b.op("add", x=x, y=b.reshape(b.var(bias), (1, -1) + (1,) * (len(x.shape) - 2)))


@lowers("ConvTranspose")
def conv_transpose(
    b: Builder,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    *,
    kernel_shape: Sequence[int] = (),  # noqa: ARG001
    strides: Sequence[int] = (),
    pads: Sequence[int] = (),
    dilations: Sequence[int] = (),
    group: int = 1,
    auto_pad: str = "NOTSET",
    output_padding: Sequence[int] = (),
    output_shape: Sequence[int] = (),
) -> Var:
    """Gradient of a convolution.

    The full result has `(size - 1)·stride + dilation·(kernel - 1) + 1` elements an axis, of which `pads` are cut off;
    `output_padding` lengthens it at the end. Where pads are equal on both sides and nothing is lengthened, MIL does it
    itself; otherwise the full result is computed and cut.
    """
    spatial = _spatial(b, x, auto_pad)
    if weight.array is None and b.ios < 17:
        b.refuse("transposed convolutions by weights computed at run time need iOS 17", "make them an initializer")
    strides, dilations = list(strides or [1] * spatial), list(dilations or [1] * spatial)
    wanted = b.outputs[0].shape
    full = [
        (size - 1) * stride + dilation * (kernel - 1) + 1
        for size, stride, dilation, kernel in zip(x.shape[2:], strides, dilations, weight.shape[2:], strict=True)
    ]
    if output_shape:
        # Operator specification: the padding that yields this shape, its odd element at the beginning.
        extra = list(output_padding or [0] * spatial)
        total = [size + more - want for size, more, want in zip(full, extra, wanted[2:], strict=True)]
        begins = [max(0, count - count // 2) for count in total]
    else:
        begins = list((pads or [0] * 2 * spatial)[:spatial])
    ends = [size - begin - want for size, begin, want in zip(full, begins, wanted[2:], strict=True)]
    common = {
        "x": x,
        "weight": weight,
        "strides": strides,
        "dilations": dilations,
        "groups": group,
        "pad_type": "custom",
    }
    known = None if bias is None or bias.array is None else bias
    if begins == ends:
        pad = interleaved(begins + ends)
        result = b.op("conv_transpose", **common, bias=known, pad=pad, output_shape=list(wanted))
        return result if known is bias or bias is None else _biased(b, result, bias)
    shape = [*wanted[:2], *full]
    cut = all(end >= 0 for end in ends)
    cut_bias = known if cut else None
    result = b.op("conv_transpose", **common, bias=cut_bias, pad=[0] * 2 * spatial, output_shape=shape)
    stops = [min(begin + want, size) for begin, want, size in zip(begins, wanted[2:], full, strict=True)]
    result = b.op(
        "slice_by_index", x=result, begin=[0, 0, *begins], end=[*wanted[:2], *stops], stride=[1] * (spatial + 2)
    )
    if cut:
        return result if known is bias or bias is None else _biased(b, result, bias)
    # Lengthened past the full result: zeros that no input reaches, and the bias on all of it.
    more = [0, 0] * 2 + interleaved([0] * spatial + [max(0, -end) for end in ends])
    result = b.op("pad", x=result, pad=more, mode="constant", constant_val=0.0)
    return result if bias is None else _biased(b, result, bias)


def _spatial(b: Builder, x: Value, auto_pad: str) -> int:
    """Number of spatial axes, after checking what MIL demands of a convolution."""
    spatial = x.rank - 2
    if spatial not in (1, 2, 3):
        b.refuse(f"Core ML convolves over 1 to 3 spatial axes, not {spatial}", "merge or add axes")
    if auto_pad not in ("NOTSET", ""):
        b.refuse(f"auto_pad={auto_pad} was not resolved into pads", "write the pads out")
    return spatial
