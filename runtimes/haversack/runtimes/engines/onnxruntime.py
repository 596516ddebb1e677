"""The ONNX Runtime engine: runs `.onnx` and `.ort` files with `onnxruntime`, on the CPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.engines.quiet import one_line, quiet_stderr
from haversack.runtimes.errors import EngineError

with quiet_stderr():  # it warns about devices it does not find while it is imported
    import onnxruntime

# ONNX's element types (onnx.TensorProto.DataType, in the spelling of onnxruntime's NodeArg.type) with a NumPy dtype.
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}


class OnnxruntimeEngine:
    """An ONNX model in an inference session; see `haversack.runtimes.engines.Engine`."""

    name = "onnxruntime"
    version: str = onnxruntime.__version__
    emulated = False

    def __init__(self, session: Any, label: str):
        self._session = session
        self._label = label
        self.inputs = tuple(_spec(label, argument) for argument in session.get_inputs())
        self.outputs = tuple(_spec(label, argument) for argument in session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: One array an input, of the exact dtype and a fitting shape.

        Returns:
            The outputs by name.

        Raises:
            EngineError: An input is missing, unknown or does not fit, or the session failed.
        """
        try:
            values = self._session.run(self._output_names, feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise EngineError(f"{self._label}: onnxruntime failed: {_reason(error)}") from error
        return dict(zip(self._output_names, values, strict=True))


def open_artifact(
    path: str | Path | bytes,
    *,
    threads: int = 1,
    optimize: bool = True,
    prepack: bool = True,
    data: Path | None = None,
    label: str | None = None,
) -> OnnxruntimeEngine:
    """Load a `.onnx` or `.ort` model.

    Args:
        path: The file, or its bytes.
        threads: How many CPU threads one call may use.
        optimize: False executes the graph as it is written, without fusion or constant folding.
        prepack: False holds no second copy of the weights, packed for the kernels; slower.
        data: The folder of the external data that bytes refer to.
        label: What messages call it; by default the file's name.

    Raises:
        EngineError: The file cannot be read, or onnxruntime rejects it.
    """
    label = label or ("the ONNX model" if isinstance(path, bytes) else Path(path).name)
    if not isinstance(path, bytes) and not Path(path).is_file():
        raise EngineError(f"{label}: no such file: {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal: everything else also arrives as an exception
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    if data is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(data))
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    with quiet_stderr():
        try:
            session = onnxruntime.InferenceSession(
                path if isinstance(path, bytes) else str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            # The folder that a file lies in is nothing to tell, and in a worker it is another each time.
            reason = _reason(error) if isinstance(path, bytes) else _reason(error).replace(str(path), label)
            raise EngineError(f"{label}: onnxruntime rejects it: {reason}") from error
    return OnnxruntimeEngine(session, label)


def _reason(error: Exception) -> str:
    """The message without its code: `[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : text` becomes `text`."""
    return one_line(re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)))


def _spec(label: str, argument: Any) -> TensorSpec:
    if argument.type not in _DTYPES:
        raise EngineError(
            f"{label}: {argument.name} is a {argument.type}, which is no NumPy array; remove it from the graph's "
            "inputs and outputs (scikit-learn: export with zipmap off)"
        )
    shape = tuple(
        size if isinstance(size, int) else size or f"{argument.name}_{axis}" for axis, size in enumerate(argument.shape)
    )
    return TensorSpec(name=argument.name, dtype=_DTYPES[argument.type], shape=shape)
