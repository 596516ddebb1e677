"""The operators that one lowered target has and another has not, each with its reason; a test keeps it complete."""

from __future__ import annotations

_EXPANDED = "no lowering needed: its function body is expanded in the hub"
_BITS = "MIL has no operations on bits"
_COUNTED = "how much it selects is known at run time only"
_RECURRENT = "not lowered yet: needs its own gate order and directions"
_INTEGERS = "MIL has no products of integers; the int8 recipe makes its own"
_EINSUM = "not lowered yet: MIL's einsum takes two equations only"
_TODO = "not lowered yet: constant folding removes it from most models"

GAPS: dict[str, dict[str, str]] = {
    "tflite": {
        "CastLike": _EXPANDED,
        "MeanVarianceNormalization": _EXPANDED,
    },
    "coreml": {
        **dict.fromkeys(("BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"), _BITS),
        **dict.fromkeys(("DFT", "STFT"), "MIL has no Fourier transform"),
        "DynamicQuantizeLinear": "MIL has no scales computed at run time",
        "Compress": _COUNTED,
        **dict.fromkeys(("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"), _INTEGERS),
        "Einsum": _EINSUM,
        "NonMaxSuppression": _COUNTED,
        "NonZero": _COUNTED,
        "Dropout": _TODO,
        "EyeLike": _TODO,
        "GridSample": "MIL's resample samples otherwise in several modes; not lowered yet",
        "GRU": _RECURRENT,
        "LSTM": _RECURRENT,
        "RNN": _RECURRENT,
        "Range": _TODO,
        "ReverseSequence": _TODO,
    },
}
"""Target → ONNX operator → why it has no lowering there."""
