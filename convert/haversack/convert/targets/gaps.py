"""The operators that one lowered target has and another has not, each with its reason; a test keeps it complete."""

from __future__ import annotations

_EXPANDED = "no lowering needed: its function body is expanded in the hub"
_COUNTED = "how much it selects is known at run time only"

GAPS: dict[str, dict[str, str]] = {
    "tflite": {
        "CastLike": _EXPANDED,
        "GridSample": "no lowering needed: restated in the hub by gathers",
        "MeanVarianceNormalization": _EXPANDED,
    },
    "coreml": {
        "NonMaxSuppression": _COUNTED,
    },
}
"""Target → ONNX operator → why it has no lowering there."""
