"""Kernels of native onnxruntime that onnxruntime-web has not; written by `benchmarks.browser_kernels`."""

RUNTIME = "onnxruntime-web 1.30.0"
NATIVE = "onnxruntime 1.31.1"

MISSING: dict[tuple[str, int], frozenset[tuple[str, ...]]] = {
    ("Where", 16): frozenset(
        {
            ("bool", "int8", "int8"),
            ("bool", "uint32", "uint32"),
        }
    ),
}
"""By operator and the opset of its definition: ONNX's names of the types of its required inputs."""
