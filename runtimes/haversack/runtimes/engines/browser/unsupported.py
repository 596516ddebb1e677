"""What the vendored onnxruntime-web does not do although native onnxruntime does: facts for a preflight.

Found by `benchmarks.browser_backend` (ONNX's own backend tests) and `benchmarks.browser_kernels` (every operator and
type), each in a real Chromium. Names of types are ONNX's, as in `tensor(name)`.
"""

from __future__ import annotations

from haversack.runtimes.engines.browser.missing import MISSING, NATIVE, RUNTIME

MAX_OPSET = 26
"""A model of a newer opset of ONNX's own operators is rejected when it is loaded."""

INPUT_OUTPUT_TYPES = frozenset(
    {
        *("bool", "double", "float", "float16", "string"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    }
)
"""Types of the tensors that a page can pass. No sequence, map or optional can be an input or output."""

SIZE_OF_SHAPE = (
    "Size of a Shape is taken for the number of the tensor's elements instead of its axes while shapes are inferred, "
    "where the tensor's sizes are all known; a model whose Range, ConstantOfShape or Reshape depends on it is rejected "
    "or gets wrong shapes"
)
"""Fixed in native onnxruntime 1.31. The remedy: fold the Size into a constant, which is the rank."""

BACKEND_CASES: dict[str, tuple[str, str]] = {
    "test_clip_default_int8_min_expanded": ("Where", "no kernel for int8"),
    "test_clip_default_int8_max_expanded": ("Where", "no kernel for int8"),
    **{
        f"test_rms_normalization_{case}_expanded": ("Size", SIZE_OF_SHAPE)
        for case in (
            *("2d_axis0", "2d_axis1", "4d_axis0", "4d_axis1", "4d_axis2", "4d_axis3"),
            *("3d_axis0_epsilon", "3d_axis1_epsilon", "3d_axis2_epsilon"),
        )
    },
}
"""Of ONNX's backend tests that native onnxruntime passes, those that fail here: the operator at fault, and why."""

__all__ = ["BACKEND_CASES", "INPUT_OUTPUT_TYPES", "MAX_OPSET", "MISSING", "NATIVE", "RUNTIME", "SIZE_OF_SHAPE"]
