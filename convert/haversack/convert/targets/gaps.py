"""The operators that one lowered target has and another has not, each with its reason; a test keeps it complete."""

from __future__ import annotations

_EXPANDED = "no lowering needed: its function body is expanded in the hub"

GAPS: dict[str, dict[str, str]] = {
    "tflite": {
        "CastLike": _EXPANDED,
        "GridSample": "no lowering needed: restated in the hub by gathers",
        "MeanVarianceNormalization": _EXPANDED,
    },
    "coreml": {},
}
"""Target → ONNX operator → why it has no lowering there."""
