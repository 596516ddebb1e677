"""The operators that one lowered target has and another has not, each with its reason; a test keeps it complete."""

from __future__ import annotations

_EXPANDED = "no lowering needed: its function body is expanded in the hub"
_QUANTIZED = "no lowering needed: it becomes the quantization of a tensor, or a QUANTIZE or DEQUANTIZE at the edge"

GAPS: dict[str, dict[str, str]] = {
    "tflite": {
        "CastLike": _EXPANDED,
        "MeanVarianceNormalization": _EXPANDED,
        "DequantizeLinear": _QUANTIZED,
        "QuantizeLinear": _QUANTIZED,
    },
    "coreml": {},
}
"""Target → ONNX operator → why it has no lowering there."""
